// Three channels apart (rrr.. ggg.. bbb..) to side by side (rgbrgb..) and back.
#pragma once

#include <array>

#include "lanes.h"

namespace sslk::augment {

// Where the lanes of one vector come from: first out of two vectors, then out of that and a third.
template <class T>
struct ThreeWay {
  std::array<Index<T>, kLanes<T>> two{}, third{};

  SSLK_INLINE Vec<T> pick(Vec<T> a, Vec<T> b, Vec<T> c) const {
    const Vec<T> ab = __builtin_shuffle(a, b, load<Index<T>>(two.data()));
    return __builtin_shuffle(ab, c, load<Index<T>>(third.data()));
  }
};

template <class T>
constexpr ThreeWay<T> three_way(int source_of(int), int lane_of(int), int first) {
  ThreeWay<T> way;
  for (int lane = 0; lane < kLanes<T>; ++lane) {
    const int source = source_of(first + lane), from = lane_of(first + lane);
    way.two[lane] = source < 2 ? source * kLanes<T> + from : 0;
    way.third[lane] = source < 2 ? lane : kLanes<T> + from;
  }
  return way;
}

// Output position k = vector * lanes + lane takes channel k % 3 of pixel k / 3.
template <class T, int kVector>
constexpr ThreeWay<T> kJoin =
    three_way<T>([](int k) { return k % 3; }, [](int k) { return k / 3; }, kVector* kLanes<T>);

// Channel c of the pixel in a lane lies at 3 * lane + c of the three vectors.
template <class T, int kChannel>
constexpr ThreeWay<T> kSplit =
    three_way<T>([](int k) { return (3 * k + kChannel) / kLanes<T>; },
                 [](int k) { return (3 * k + kChannel) % kLanes<T>; }, 0);

template <class T>
SSLK_INLINE void join(Vec<T>& a, Vec<T>& b, Vec<T>& c) {
  const Vec<T> x = kJoin<T, 0>.pick(a, b, c), y = kJoin<T, 1>.pick(a, b, c);
  c = kJoin<T, 2>.pick(a, b, c);
  a = x;
  b = y;
}
template <class T>
SSLK_INLINE void split(Vec<T>& a, Vec<T>& b, Vec<T>& c) {
  const Vec<T> x = kSplit<T, 0>.pick(a, b, c), y = kSplit<T, 1>.pick(a, b, c);
  c = kSplit<T, 2>.pick(a, b, c);
  a = x;
  b = y;
}

}  // namespace sslk::augment
