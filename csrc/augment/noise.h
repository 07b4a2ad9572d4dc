// Gaussian noise that depends on nothing but two keys, the channel and the pixel.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../philox.h"
#include "colour.h"
#include "normal.h"
#include "strip.h"

namespace sslk::augment {

// Calls f(channel, offset in the plane, vector of numbers) for all of a strip.
template <class T, class F>
void for_each_noise(const Strip<T>& strip, uint64_t seed, F&& f) {
  for (int64_t y = 0; y < strip.rows; ++y) {
    for (int64_t x = 0; x < strip.stride; x += kLanes<T>) {
      for (int64_t first = 0; first < strip.channels; first += 4) {
        T normals[4][kLanes<T>];
        for (int64_t lane = 0; lane < kLanes<T>; ++lane) {
          const uint32_t pixel = uint32_t((strip.top + y) * strip.width + x + lane);
          const PhiloxBlock block =
              philox_block(seed, Stream::kAugmentNoise, uint64_t(first / 4), pixel);
          T four[4];
          normal_pair(block.word[0], block.word[1], four);
          normal_pair(block.word[2], block.word[3], four + 2);
          for (int i = 0; i < 4; ++i) normals[i][lane] = four[i];
        }
        const int64_t end = std::min<int64_t>(4, strip.channels - first);
        for (int64_t i = 0; i < end; ++i) f(first + i, y * strip.stride + x, load(normals[i]));
      }
    }
  }
}

template <class T>
void add_noise(const Strip<T>& from, const Strip<T>& to, uint64_t seed, T deviation) {
  for_each_noise(from, seed, [&](int64_t c, int64_t i, Vec<T> noise) {
    store(to.row(c, 0) + i, unit_clamp<T>(load(from.row(c, 0) + i) + noise * deviation));
  });
}

template <class T>
void reverse_noise(const Strip<T>& input, uint64_t seed, T deviation, const Strip<T>& gradient) {
  for_each_noise(input, seed, [&](int64_t c, int64_t i, Vec<T> noise) {
    T* const g = gradient.row(c, 0) + i;
    const Vec<T> x = load(input.row(c, 0) + i) + noise * deviation;
    store(g, unit_clamp_gradient<T>(x, load(g)));
  });
}

}  // namespace sslk::augment
