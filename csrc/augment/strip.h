// A few rows of an image on their way through the stages: small enough for the first-level cache.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace sslk::augment {

// An image or a part of one in the accumulator's type. Rows are padded to whole vectors; what lies
// in the padding is defined and of no use.
template <class T>
struct Strip {
  T* data = nullptr;
  int64_t plane = 0;   // from channel to channel
  int64_t stride = 0;  // from row to row
  int64_t channels = 0;
  int64_t width = 0;
  int64_t top = 0, rows = 0;  // these rows of the whole image

  T* row(int64_t channel, int64_t y) const { return data + channel * plane + y * stride; }
  int64_t count() const { return rows * stride; }  // in a plane, padding included

  Strip part(int64_t y, int64_t n) const {
    Strip rows_of = *this;
    rows_of.data += y * stride;
    rows_of.top += y;
    rows_of.rows = n;
    return rows_of;
  }
};

template <class T>
void copy(const Strip<T>& from, const Strip<T>& to) {
  for (int64_t c = 0; c < from.channels; ++c) {
    const T* const in = from.row(c, 0);
    T* const out = to.row(c, 0);
    for (int64_t i = 0; i < from.count(); i += kLanes<T>) store(out + i, load(in + i));
  }
}

// The sum of all lanes, halves first: one after the other they would wait for each other.
template <class T>
SSLK_INLINE T pairwise_sum(Vec<T> v) {
  for (Index<T> half = kLanes<T> / 2; half; half /= 2) {
    v += __builtin_shuffle(v, lane_numbers<T>() ^ half);
  }
  return v[0];
}

// Calls f(offset) for every vector of a plane, and sums what it returns but for the padding.
template <class T, class F>
SSLK_INLINE double sum_pixels(const Strip<T>& strip, F&& f) {
  const int64_t whole = strip.width / kLanes<T> * kLanes<T>;
  const auto inside = lane_numbers<T>() < Index<T>(strip.width - whole);
  Vec<T> sum = {};
  for (int64_t y = 0; y < strip.rows; ++y) {
    const int64_t row = y * strip.stride;
    for (int64_t x = 0; x < whole; x += kLanes<T>) sum += f(row + x);
    if (whole < strip.width) sum += inside ? f(row + whole) : Vec<T>{};
  }
  return double(pairwise_sum<T>(sum));
}

}  // namespace sslk::augment
