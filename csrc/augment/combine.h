// Weighted sums of rows: the vertical half of resizing and blurring.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace sslk::augment {

// Few taps: the weights stay in registers.
template <int kTaps, int kChannels, class T>
SSLK_INLINE void combine_few(const T* const* rows, const T* weight, int64_t n, int64_t in_plane,
                             T* out, int64_t out_plane) {
  Vec<T> w[kTaps];
  for (int t = 0; t < kTaps; ++t) w[t] = broadcast(weight[t]);
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    for (int c = 0; c < kChannels; ++c) {
      Vec<T> sum = load(rows[0] + c * in_plane + i) * w[0];
      for (int t = 1; t < kTaps; ++t) sum += load(rows[t] + c * in_plane + i) * w[t];
      store(out + c * out_plane + i, sum);
    }
  }
}
template <int kTaps, class T>
SSLK_INLINE void combine_few(const T* const* rows, const T* weight, int64_t channels, int64_t n,
                             int64_t in_plane, T* out, int64_t out_plane) {
  if (channels == 3) return combine_few<kTaps, 3>(rows, weight, n, in_plane, out, out_plane);
  const T* at[kTaps];
  for (int64_t c = 0; c < channels; ++c) {
    for (int t = 0; t < kTaps; ++t) at[t] = rows[t] + c * in_plane;
    combine_few<kTaps, 1>(at, weight, n, in_plane, out + c * out_plane, out_plane);
  }
}

// Any number of taps, for some vectors of some channels at a time: one sum would wait for itself.
template <int kChannels, int kVectors, class T>
SSLK_INLINE void combine_columns(const T* const* rows, const T* weight, int64_t taps, int64_t at,
                                 int64_t in_plane, T* out, int64_t out_plane) {
  Vec<T> sum[kChannels][kVectors] = {};
  for (int64_t t = 0; t < taps; ++t) {
    const Vec<T> w = broadcast(weight[t]);
    for (int c = 0; c < kChannels; ++c) {
      const T* const in = rows[t] + c * in_plane + at;
      for (int v = 0; v < kVectors; ++v) sum[c][v] += load(in + v * kLanes<T>) * w;
    }
  }
  for (int c = 0; c < kChannels; ++c) {
    T* const to = out + c * out_plane;
    for (int v = 0; v < kVectors; ++v) store(to + v * kLanes<T>, sum[c][v]);
  }
}

// out = sum over t of weight[t] * rows[t]: n values, rounded up to whole vectors, of each channel.
template <class T>
SSLK_INLINE void combine_rows(const T* const* rows, const T* weight, int64_t taps, int64_t channels,
                              int64_t n, int64_t in_plane, T* out, int64_t out_plane) {
  if (taps == 1) return combine_few<1>(rows, weight, channels, n, in_plane, out, out_plane);
  if (taps == 2) return combine_few<2>(rows, weight, channels, n, in_plane, out, out_plane);
  if (taps == 3) return combine_few<3>(rows, weight, channels, n, in_plane, out, out_plane);
  constexpr int64_t kLane = kLanes<T>;
  if (channels == 3) {
    int64_t i = 0;
    for (; i + 2 * kLane <= n; i += 2 * kLane) {
      combine_columns<3, 2>(rows, weight, taps, i, in_plane, out + i, out_plane);
    }
    for (; i < n; i += kLane) {
      combine_columns<3, 1>(rows, weight, taps, i, in_plane, out + i, out_plane);
    }
    return;
  }
  for (int64_t c = 0; c < channels; ++c) {
    const int64_t in = c * in_plane;
    T* const to = out + c * out_plane;
    int64_t i = 0;
    for (; i + 4 * kLane <= n; i += 4 * kLane) {
      combine_columns<1, 4>(rows, weight, taps, in + i, 0, to + i, 0);
    }
    for (; i < n; i += kLane) combine_columns<1, 1>(rows, weight, taps, in + i, 0, to + i, 0);
  }
}

}  // namespace sslk::augment
