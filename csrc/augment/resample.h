// W_y X W_x^T, row by row: resizing a crop, and with transposed weights the gradient of that.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "bands.h"
#include "combine.h"
#include "pixels.h"

namespace sslk::augment {

// Where rows of an image lie: channels, and rows, apart.
template <class P>
struct RowsAt {
  P* data;
  int64_t plane, row;
};

// How many values beyond its last one a row must have that can be read, for spread_rows.
template <class T>
constexpr int64_t kOverread = 2 * kLanes<T>;

template <class T>
SSLK_INLINE bool shuffles(const Bands<T>& bands) {
  return kLanes<T> > 4 && bands.widest <= 2 * kLanes<T>;  // narrow vectors have no such shuffle
}

// kChannels planes of n rows by W_x, from pixels of any type.
template <int kTaps, int kChannels, class T, class S>
SSLK_INLINE void spread_planes(const Bands<T>& bands, int64_t n, const RowsAt<const S>& in,
                               const RowsAt<T>& out) {
  using I = Vec<Index<T>>;
  const int64_t taps = kTaps ? kTaps : bands.taps;
  const bool in_registers = shuffles(bands);
  for (int64_t b = 0; b < bands.blocks(); ++b) {
    const S* from = in.data + bands.base[b];
    T* to = out.data + b * kLanes<T>;
    const I first = load(bands.first + b * kLanes<T>) - bands.base[b];
    const I last = load(bands.last + b * kLanes<T>) - bands.base[b];
    const T* const weights = bands.weights + b * taps * kLanes<T>;
    // f(index, weight) for each tap. Weights beyond the last input are zero, and the last stands in
    // for what lies there.
    const auto for_each_tap = [&](auto&& f) {
      for (int64_t t = 0; t < taps; ++t) {
        const I at = first + Index<T>(t);
        f(at < last ? at : last, load(weights + t * kLanes<T>));
      }
    };
    const bool one_vector = in_registers && bands.reach[b] <= kLanes<T>;
    for (int64_t y = 0; y < n; ++y, from += in.row, to += out.row) {
      Vec<T> low[kChannels], high[kChannels], sum[kChannels] = {};
      if (one_vector) {
        for (int c = 0; c < kChannels; ++c) low[c] = load_pixels<T>(from + c * in.plane);
        for_each_tap([&](I at, Vec<T> w) {
          for (int c = 0; c < kChannels; ++c) sum[c] += __builtin_shuffle(low[c], at) * w;
        });
      } else if (in_registers) {
        for (int c = 0; c < kChannels; ++c) {
          low[c] = load_pixels<T>(from + c * in.plane);
          high[c] = load_pixels<T>(from + c * in.plane + kLanes<T>);
        }
        for_each_tap([&](I at, Vec<T> w) {
          for (int c = 0; c < kChannels; ++c) sum[c] += __builtin_shuffle(low[c], high[c], at) * w;
        });
      } else if constexpr (std::is_same_v<S, T>) {
        for_each_tap([&](I at, Vec<T> w) {
          for (int c = 0; c < kChannels; ++c) sum[c] += gather(from + c * in.plane, at) * w;
        });
      }
      for (int c = 0; c < kChannels; ++c) store(to + c * out.plane, sum[c]);
    }
  }
}

template <int kChannels, class T, class S>
SSLK_INLINE void spread_planes(const Bands<T>& bands, int64_t n, const RowsAt<const S>& in,
                               const RowsAt<T>& out) {
  if (bands.taps == 2) return spread_planes<2, kChannels>(bands, n, in, out);
  if (bands.taps == 3) return spread_planes<3, kChannels>(bands, n, in, out);
  spread_planes<0, kChannels>(bands, n, in, out);
}

// n rows of pixels by W_x; of another type than T only where shuffles(bands).
template <class T, class S>
void spread_rows(const Bands<T>& bands, int64_t channels, int64_t n, RowsAt<const S> in,
                 RowsAt<T> out) {
  for (int64_t c = 0; c < channels;) {
    const int64_t together = c + 3 <= channels ? 3 : 1;
    if (together == 3) {
      spread_planes<3>(bands, n, in, out);
    } else {
      spread_planes<1>(bands, n, in, out);
    }
    c += together;
    in.data += together * in.plane;
    out.data += together * out.plane;
  }
}

// Rows of the product, asked for in rising or falling order. Where it makes rows far
// fewer, y goes first. Rows of the input are taken several at a time, and kept while they are near.
//
// They come from a source with
//   read(i, to, plane)         writes row i as it is
//   spread(bands, i, n, out)   writes n rows by W_x, or returns false when it cannot
template <class T>
class Resampler {
 public:
  // Memory for rows of width to rows of out_width, with so many taps in y.
  static size_t bytes(int64_t width, int64_t out_width, int64_t taps, int64_t channels) {
    const int64_t plane = plane_of(std::max(width, out_width));
    const int64_t batch = batch_of(std::min(width, out_width));
    return Workspace::padded<T>(batch * channels * plane) +
           Workspace::padded<T>(slots_of(taps, batch) * channels * plane) +
           Workspace::padded<const T*>(taps) + Workspace::padded<T>(taps);
  }

  Resampler(Workspace& memory, const Bands<T>& x, const Bands<T>& y, int64_t channels)
      : x_(x),
        y_(y),
        channels_(channels),
        shrinks_(3 * y.outputs < 2 * y.inputs),
        batch_(batch_of(std::min(x.inputs, x.outputs))),
        slots_(slots_of(y.taps, batch_)),
        passing_plane_(plane_of(x.inputs)),
        kept_plane_(plane_of(shrinks_ ? x.inputs : x.outputs)) {
    passing_ = memory.take<T>(batch_ * channels * passing_plane_);
    kept_ = memory.take<T>(slots_ * channels * kept_plane_);
    taken_ = memory.take<const T*>(y.taps);
    weight_ = memory.take<T>(y.taps);
  }

  // n rows from y on.
  template <class Source>
  SSLK_INLINE void rows(int64_t y, int64_t n, const RowsAt<T>& out, const Source& source) {
    if (!shrinks_) {
      for (int64_t i = 0; i < n; ++i) {
        combine(y + i, out.data + i * out.row, out.plane, x_.blocks() * kLanes<T>, source);
      }
      return;
    }
    for (int64_t i = 0; i < n; i += batch_) {
      const int64_t together = std::min(batch_, n - i);
      for (int64_t k = 0; k < together; ++k) {
        combine(y + i + k, passing_ + k * passing_row(), passing_plane_, passing_plane_, source);
      }
      spread_rows<T, T>(x_, channels_, together, {passing_, passing_plane_, passing_row()},
                        {out.data + i * out.row, out.plane, out.row});
    }
  }

 private:
  static int64_t plane_of(int64_t width) {
    return (width + kLanes<T> - 1) / kLanes<T> * kLanes<T> + kOverread<T>;
  }
  static int64_t batch_of(int64_t width) {
    return std::clamp<int64_t>(1024 >> std::bit_width(uint64_t(width - 1)), 1, 8);
  }
  static int64_t slots_of(int64_t taps, int64_t batch) {
    return int64_t(std::bit_ceil(uint64_t(taps + batch)));
  }
  int64_t passing_row() const { return channels_ * passing_plane_; }
  int64_t kept_row() const { return channels_ * kept_plane_; }
  T* kept(int64_t i) const { return kept_ + (i & (slots_ - 1)) * kept_row(); }

  template <class Source>
  SSLK_INLINE void combine(int64_t y, T* out, int64_t out_plane, int64_t n, const Source& source) {
    const int64_t first = y_.first[y], last = y_.last[y], count = last - first + 1;
    if (first < begin_ || last >= end_) fetch(first, last, source);
    if (count == 2) {  // the most frequent by far
      const T* const rows[] = {kept(first), kept(last)};
      const T weights[] = {y_.weight(y, 0), y_.weight(y, 1)};
      return combine_few<2>(rows, weights, channels_, n, kept_plane_, out, out_plane);
    }
    for (int64_t t = 0; t < count; ++t) {
      taken_[t] = kept(first + t);
      weight_[t] = y_.weight(y, t);
    }
    combine_rows(taken_, weight_, count, channels_, n, kept_plane_, out, out_plane);
  }

  // Makes rows first ... last, and some that will be wanted next, part of [begin_, end_).
  template <class Source>
  void fetch(int64_t first, int64_t last, const Source& source) {
    if (last < begin_ || first > end_) begin_ = end_ = last < begin_ ? last + 1 : first;
    while (last >= end_) {
      const int64_t n = std::min({batch_, y_.inputs - end_, slots_ - (end_ & (slots_ - 1))});
      take(end_, n, source);
      end_ += n;
      begin_ = std::max(begin_, end_ - slots_);
    }
    while (first < begin_) {
      const int64_t n = std::min({batch_, begin_, ((begin_ - 1) & (slots_ - 1)) + 1});
      begin_ -= n;
      take(begin_, n, source);
      end_ = std::min(end_, begin_ + slots_);
    }
  }

  template <class Source>
  void take(int64_t i, int64_t n, const Source& source) {
    if (shrinks_) {
      for (int64_t k = 0; k < n; ++k) source.read(i + k, kept(i + k), kept_plane_);
      return;
    }
    const RowsAt<T> out = {kept(i), kept_plane_, kept_row()};
    if (source.spread(x_, i, n, out)) return;
    for (int64_t k = 0; k < n; ++k)
      source.read(i + k, passing_ + k * passing_row(), passing_plane_);
    spread_rows<T, T>(x_, channels_, n, {passing_, passing_plane_, passing_row()}, out);
  }

  // References, here and elsewhere: to copy what was just written, in larger pieces than it was
  // written in, waits until all stores before are through.
  const Bands<T>&x_, &y_;
  const int64_t channels_;
  const bool shrinks_;           // y goes first
  const int64_t batch_, slots_;  // slots_ is a power of two
  const int64_t passing_plane_, kept_plane_;
  T* passing_;                   // [batch][channel][plane]: on the way to or from kept rows
  T* kept_;                      // [slot][channel][plane]
  int64_t begin_ = 0, end_ = 0;  // these rows of the input are kept
  const T** taken_;              // [tap]
  T* weight_;                    // [tap]
};

}  // namespace sslk::augment
