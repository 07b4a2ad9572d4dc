// W_y X W_x^T, row by row: resizing a crop, and with transposed weights the gradient of that.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "bands.h"
#include "combine.h"

namespace sslk::augment {

// kChannels planes of one row by W_x. in has 2 kLanes readable values beyond each plane's last.
template <int kTaps, int kChannels, class T>
SSLK_INLINE void spread_planes(const Bands<T>& bands, const T* in, int64_t in_plane, T* out,
                               int64_t out_plane) {
  using I = Vec<Index<T>>;
  const int64_t taps = kTaps ? kTaps : bands.taps;
  for (int64_t b = 0; b < bands.blocks(); ++b) {
    const Index<T> base = bands.base[b];
    // Weights beyond the last input are zero, and the last stands in for what lies there.
    I at = load(bands.first + b * kLanes<T>) - base;
    const I last = load(bands.last + b * kLanes<T>) - base;
    const T* const weights = bands.weights + b * taps * kLanes<T>;
    Vec<T> sum[kChannels] = {};
    if (kLanes<T> > 4 && bands.reach[b] <= 2 * kLanes<T>) {  // narrow vectors have no such shuffle
      Vec<T> low[kChannels], high[kChannels];
      for (int c = 0; c < kChannels; ++c) {
        low[c] = load(in + c * in_plane + base);
        high[c] = load(in + c * in_plane + base + kLanes<T>);
      }
      for (int64_t t = 0; t < taps; ++t, ++at) {
        const I from = at < last ? at : last;
        const Vec<T> w = load(weights + t * kLanes<T>);
        for (int c = 0; c < kChannels; ++c) sum[c] += __builtin_shuffle(low[c], high[c], from) * w;
      }
    } else {
      for (int64_t t = 0; t < taps; ++t, ++at) {
        const I from = at < last ? at : last;
        const Vec<T> w = load(weights + t * kLanes<T>);
        for (int c = 0; c < kChannels; ++c) sum[c] += gather(in + c * in_plane + base, from) * w;
      }
    }
    for (int c = 0; c < kChannels; ++c) store(out + c * out_plane + b * kLanes<T>, sum[c]);
  }
}

template <int kChannels, class T>
SSLK_INLINE void spread_planes(const Bands<T>& bands, const T* in, int64_t in_plane, T* out,
                               int64_t out_plane) {
  if (bands.taps == 2) return spread_planes<2, kChannels>(bands, in, in_plane, out, out_plane);
  if (bands.taps == 3) return spread_planes<3, kChannels>(bands, in, in_plane, out, out_plane);
  spread_planes<0, kChannels>(bands, in, in_plane, out, out_plane);
}

template <class T>
void spread_row(const Bands<T>& bands, int64_t channels, const T* in, int64_t in_plane, T* out,
                int64_t out_plane) {
  int64_t c = 0;
  for (; c + 3 <= channels; c += 3) {
    spread_planes<3>(bands, in + c * in_plane, in_plane, out + c * out_plane, out_plane);
  }
  for (; c < channels; ++c) {
    spread_planes<1>(bands, in + c * in_plane, in_plane, out + c * out_plane, out_plane);
  }
}

// Rows of the product, in any order; rows of the input that were just used are kept.
template <class T>
class Resampler {
 public:
  // Memory for rows of width to rows of out_width, with so many taps in y.
  static size_t bytes(int64_t width, int64_t out_width, int64_t taps, int64_t channels) {
    const int64_t slots = std::bit_ceil(uint64_t(taps));
    const int64_t plane = std::max(width, out_width) + 3 * kLanes<T>;
    return Workspace::padded<T>(channels * plane) + Workspace::padded<T>(slots * channels * plane) +
           Workspace::padded<int64_t>(slots) + Workspace::padded<const T*>(taps) +
           Workspace::padded<T>(taps);
  }

  Resampler(Workspace& memory, const Bands<T>& x, const Bands<T>& y, int64_t channels)
      : x_(x),
        y_(y),
        channels_(channels),
        in_plane_(in_plane_of(x)),
        kept_plane_(kept_plane_of(x, y)),
        mask_(std::bit_ceil(uint64_t(y.taps)) - 1) {
    row_ = memory.take<T>(channels * in_plane_);
    kept_ = memory.take<T>((mask_ + 1) * channels * kept_plane_);
    held_ = memory.take<int64_t>(mask_ + 1);
    taken_ = memory.take<const T*>(y.taps);
    weight_ = memory.take<T>(y.taps);
    std::fill_n(held_, mask_ + 1, int64_t(-1));
  }

  // Row y. load(i, to, plane) writes row i of the input.
  template <class Load>
  SSLK_INLINE void row(int64_t y, T* out, int64_t out_plane, Load&& load) {
    const int64_t first = y_.first[y], count = y_.last[y] - first + 1;
    for (int64_t t = 0; t < count; ++t) {
      const int64_t i = first + t, slot = i & mask_;
      T* const kept = kept_ + slot * channels_ * kept_plane_;
      if (held_[slot] != i) {
        held_[slot] = i;
        if (shrinks(y_)) {
          load(i, kept, kept_plane_);
        } else {
          load(i, row_, in_plane_);
          spread_row(x_, channels_, row_, in_plane_, kept, kept_plane_);
        }
      }
      taken_[t] = kept;
      weight_[t] = y_.weight(y, t);
    }
    if (shrinks(y_)) {
      combine_rows(taken_, weight_, count, channels_, kept_plane_, kept_plane_, row_, in_plane_);
      spread_row(x_, channels_, row_, in_plane_, out, out_plane);
    } else {
      combine_rows(taken_, weight_, count, channels_, kept_plane_, kept_plane_, out, out_plane);
    }
  }

 private:
  // The axis that makes rows fewer goes first.
  static bool shrinks(const Bands<T>& y) { return y.outputs < y.inputs; }
  static int64_t in_plane_of(const Bands<T>& x) {
    return (x.inputs + kLanes<T> - 1) / kLanes<T> * kLanes<T> + 2 * kLanes<T>;
  }
  static int64_t kept_plane_of(const Bands<T>& x, const Bands<T>& y) {
    return shrinks(y) ? in_plane_of(x) : x.blocks() * kLanes<T>;
  }

  const Bands<T> x_, y_;
  const int64_t channels_, in_plane_, kept_plane_, mask_;
  T* row_;           // one row of the input, or of its combination
  T* kept_;          // [slot][channel][plane]
  int64_t* held_;    // [slot]: the row there
  const T** taken_;  // [tap]
  T* weight_;        // [tap]
};

}  // namespace sslk::augment
