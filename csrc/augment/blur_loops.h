// The inner loops of the blur, one for each small radius, with all weights in registers.
#pragma once

#include <cstdint>

namespace sslk::augment {

constexpr int64_t kBlurRows = 4;  // rows that share what is read

// out[i] = sum over t in [-radius, radius] of weights[t] * in[i + t], for n values rounded up to
// whole vectors. Up to two vectors around those that count are read.
template <class T>
using SlideRow = void (*)(const T* in, const T* weights, int64_t radius, int64_t n, T* out);
template <class T>
SlideRow<T> row_slide(int64_t radius);

// Rows that are written, all values times scale plus shift.
template <class T>
struct BlurredRows {
  T* data;
  int64_t stride;
  T scale = 1, shift = 0;
  bool stream = false;  // past the caches: rows are aligned to vectors
};

// kBlurRows rows of n values from rows[i], the input's row i - radius.
template <class T>
using BlurColumns = void (*)(const T* weights, const T* const* rows, int64_t n,
                             const BlurredRows<T>& out);
// Null where there is no such loop.
template <class T>
BlurColumns<T> columns_blur(int64_t radius);

}  // namespace sslk::augment
