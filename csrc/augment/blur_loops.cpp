#include "blur_loops.h"

#include <algorithm>
#include <utility>

#include "store.h"

namespace sslk::augment {

constexpr int kLargestUnrolled = 12;  // sigma 2 and less, see Gaussian

namespace {

// ---- Along a row --------------------------------------------------------------------------------

// Lanes kFrom, kFrom + 1, ... of two vectors that follow each other in memory at p. In 64-byte
// vectors half of the unaligned reads are replaced: each of them would touch two cache lines.
template <int kFrom, class T>
SSLK_INLINE Vec<T> shifted(const T* p) {
  if constexpr (kVectorBytes == 64 && kFrom % 2 == 1) {
    return __builtin_shuffle(load(p), load(p + kLanes<T>), lane_numbers<T>() + Index<T>(kFrom));
  }
  return load(p + kFrom);
}

// kVectors outputs from those around p, which is aligned. What is read once at lane offset kFrom
// serves tap kFrom of one output and the taps a whole vector away of its neighbours.
template <int kRadius, int kVectors, class T, int... kFrom>
SSLK_INLINE void slide_block(const T* p, const Vec<T>* weight, T* out,
                             std::integer_sequence<int, kFrom...>) {
  constexpr int kReach = (kRadius + kLanes<T> - 1) / kLanes<T>;
  Vec<T> sum[kVectors] = {};
  const auto add = [&](auto from) {
    constexpr int kOffset = decltype(from)::value;
#pragma GCC unroll 16
    for (int m = -kReach; m < kVectors + kReach; ++m) {
      Vec<T> x = {};
      bool read = false;
#pragma GCC unroll 16
      for (int n = 0; n < kVectors; ++n) {
        const int tap = (m - n) * kLanes<T> + kOffset;
        if (tap < -kRadius || tap > kRadius) continue;
        if (!read) x = shifted<kOffset>(p + m * kLanes<T>);
        read = true;
        sum[n] += x * weight[tap < 0 ? -tap : tap];
      }
    }
  };
  (add(std::integral_constant<int, kFrom>{}), ...);
#pragma GCC unroll 16
  for (int n = 0; n < kVectors; ++n) store(out + n * kLanes<T>, sum[n]);
}

template <int kRadius, class T>
void slide_row(const T* in, const T* weights, int64_t, int64_t n, T* out) {
  constexpr auto kOffsets = std::make_integer_sequence<int, kLanes<T>>();
  Vec<T> w[kRadius + 1];
  for (int t = 0; t <= kRadius; ++t) w[t] = broadcast(weights[t]);
  int64_t i = 0;
  for (; i + 6 * kLanes<T> <= n; i += 6 * kLanes<T>) {
    slide_block<kRadius, 6>(in + i, w, out + i, kOffsets);
  }
  for (; i + 2 * kLanes<T> <= n; i += 2 * kLanes<T>) {
    slide_block<kRadius, 2>(in + i, w, out + i, kOffsets);
  }
  for (; i < n; i += kLanes<T>) slide_block<kRadius, 1>(in + i, w, out + i, kOffsets);
}

template <class T>
void slide_any_row(const T* in, const T* weights, int64_t radius, int64_t n, T* out) {
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    Vec<T> sum = {};
    for (int64_t t = -radius; t <= radius; ++t) sum += load(in + i + t) * weights[t];
    store(out + i, sum);
  }
}

// ---- Down the columns ---------------------------------------------------------------------------

template <int kRadius, int kVectors, class T>
SSLK_INLINE void blur_column(const Vec<T>* weight, const T* const* rows, int64_t at,
                             const BlurredRows<T>& out) {
  Vec<T> sum[kBlurRows][kVectors] = {};
#pragma GCC unroll 64
  for (int i = 0; i < kBlurRows + 2 * kRadius; ++i) {
    Vec<T> x[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) x[v] = load(rows[i] + at + v * kLanes<T>);
#pragma GCC unroll 8
    for (int j = 0; j < kBlurRows; ++j) {
      const int tap = i - j - kRadius;
      if (tap < -kRadius || tap > kRadius) continue;
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[j][v] += x[v] * weight[tap < 0 ? -tap : tap];
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kBlurRows; ++j) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      T* const to = out.data + j * out.stride + at + v * kLanes<T>;
      const Vec<T> value = sum[j][v] * out.scale + out.shift;
      if (out.stream) {
        stream_pixels<T, T>(to, value);
      } else {
        store(to, value);
      }
    }
  }
}

template <int kRadius, class T>
void blur_columns(const T* weights, const T* const* rows, int64_t n, const BlurredRows<T>& to) {
  const BlurredRows<T> out = to;
  Vec<T> w[kRadius + 1];
  for (int t = 0; t <= kRadius; ++t) w[t] = broadcast(weights[t]);
  int64_t i = 0;
  for (; i + 2 * kLanes<T> <= n; i += 2 * kLanes<T>) {
    blur_column<kRadius, 2>(w, rows, i, out);
  }
  for (; i < n; i += kLanes<T>) blur_column<kRadius, 1>(w, rows, i, out);
}

// ---- By radius ----------------------------------------------------------------------------------

template <class T, int... kRadius>
SlideRow<T> slide_of(int64_t radius, std::integer_sequence<int, kRadius...>) {
  static constexpr SlideRow<T> kLoops[] = {slide_row<kRadius, T>...};
  return kLoops[radius];
}
template <class T, int... kRadius>
BlurColumns<T> columns_of(int64_t radius, std::integer_sequence<int, kRadius...>) {
  static constexpr BlurColumns<T> kLoops[] = {blur_columns<kRadius, T>...};
  return kLoops[radius];
}
}  // namespace

template <class T>
SlideRow<T> row_slide(int64_t radius) {
  // Only floats leave out weights, so that other radii are rare.
  if constexpr (sizeof(T) == 4) {
    constexpr auto kRadii = std::make_integer_sequence<int, kLargestUnrolled + 1>();
    if (radius <= kLargestUnrolled) return slide_of<T>(radius, kRadii);
  }
  return slide_any_row<T>;
}

template <class T>
BlurColumns<T> columns_blur(int64_t radius) {
  if constexpr (sizeof(T) == 4) {
    constexpr auto kRadii = std::make_integer_sequence<int, kLargestUnrolled + 1>();
    if (radius <= kLargestUnrolled) return columns_of<T>(radius, kRadii);
  }
  return nullptr;
}

template SlideRow<float> row_slide(int64_t);
template SlideRow<double> row_slide(int64_t);
template BlurColumns<float> columns_blur(int64_t);
template BlurColumns<double> columns_blur(int64_t);

}  // namespace sslk::augment
