// Separable Gaussian blur, mirrored at the border.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../workspace.h"
#include "combine.h"
#include "strip.h"

namespace sslk::augment {

// Index i mirrored into [0, n), the ends not repeated; |i| and |i - n + 1| are below n.
inline int64_t mirrored(int64_t i, int64_t n) {
  i = i < 0 ? -i : i;
  return i < n ? i : 2 * n - 2 - i;
}

// Weights at -radius ... radius. Those too small to be seen in T are left out.
template <class T>
struct Gaussian {
  int64_t radius = 0;
  T* weights = nullptr;

  // memory: as many as the kernel has.
  void fill(T* memory, int64_t kernel, double sigma) {
    const int64_t half = kernel / 2;
    const auto at = [&](int64_t i) { return std::exp(-0.5 * double(i * i) / (sigma * sigma)); };
    const double smallest = sizeof(T) == 8 ? 0.0 : 1e-8;
    double total = 1;
    radius = 0;
    for (int64_t i = 1; i <= half; ++i) {
      total += 2 * at(i);
      if (at(i) > smallest) radius = i;
    }
    weights = memory;
    for (int64_t i = -radius; i <= radius; ++i) weights[i + radius] = T(at(i) / total);
  }
};

template <int kVectors, class T>
SSLK_INLINE void slide(const T* in, const T* weights, int64_t taps, T* out) {
  Vec<T> sum[kVectors] = {};
  for (int64_t t = 0; t < taps; ++t) {
    const Vec<T> w = broadcast(weights[t]);
    for (int v = 0; v < kVectors; ++v) sum[v] += load(in + t + v * kLanes<T>) * w;
  }
  for (int v = 0; v < kVectors; ++v) store(out + v * kLanes<T>, sum[v]);
}

// out[i] = sum over t of weights[t] * in[i + t], n values rounded up to whole vectors.
template <class T>
SSLK_INLINE void slide_row(const T* in, const T* weights, int64_t taps, int64_t n, T* out) {
  int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) slide<4>(in + i, weights, taps, out + i);
  for (; i < n; i += kLanes<T>) slide<1>(in + i, weights, taps, out + i);
}

// Values that a row takes with its mirrored ends.
template <class T>
int64_t mirrored_row_size(int64_t width, int64_t kernel) {
  return (width + kernel + 2 * kLanes<T>) / kLanes<T> * kLanes<T>;
}

// Rows of a strip, blurred along the row, to the same rows of an image.
template <class T>
void blur_across(const Gaussian<T>& gaussian, const Strip<T>& strip, T* scratch,
                 const Strip<T>& out) {
  const int64_t r = gaussian.radius, width = strip.width;
  T* const middle = scratch + r;
  for (int64_t c = 0; c < strip.channels; ++c) {
    for (int64_t y = 0; y < strip.rows; ++y) {
      std::copy_n(strip.row(c, y), width, middle);
      for (int64_t i = 1; i <= r; ++i) {
        middle[-i] = middle[i];
        middle[width - 1 + i] = middle[width - 1 - i];
      }
      slide_row(scratch, gaussian.weights, 2 * r + 1, width, out.row(c, y));
    }
  }
}

// kRows rows of a column of vectors; rows[i] is the mirrored row i - radius.
template <int kRows, int kVectors, class T>
SSLK_INLINE void blur_down_block(const Gaussian<T>& gaussian, const T* const* rows, int64_t at,
                                 T* out, int64_t stride) {
  const int64_t last = 2 * gaussian.radius;
  Vec<T> sum[kRows][kVectors] = {};
  const auto add = [&](int64_t i, auto inside) {
    Vec<T> x[kVectors];
    for (int v = 0; v < kVectors; ++v) x[v] = load(rows[i] + at + v * kLanes<T>);
    for (int j = 0; j < kRows; ++j) {
      if (!inside(i - j)) continue;
      const Vec<T> w = broadcast(gaussian.weights[i - j]);
      for (int v = 0; v < kVectors; ++v) sum[j][v] += x[v] * w;
    }
  };
  // Rows that all outputs use lie between those that only some do.
  const auto some = [&](int64_t t) { return t >= 0 && t <= last; };
  const auto all = [](int64_t) { return true; };
  int64_t i = 0;
  for (; i < kRows - 1; ++i) add(i, some);
  for (; i <= last; ++i) add(i, all);
  for (; i < kRows + last; ++i) add(i, some);
  for (int j = 0; j < kRows; ++j) {
    for (int v = 0; v < kVectors; ++v) store(out + j * stride + v * kLanes<T>, sum[j][v]);
  }
}

template <int kRows, class T>
SSLK_INLINE void blur_down_rows(const Gaussian<T>& gaussian, const T* const* rows, int64_t n,
                                T* out, int64_t stride) {
  int64_t i = 0;
  for (; i + 2 * kLanes<T> <= n; i += 2 * kLanes<T>) {
    blur_down_block<kRows, 2>(gaussian, rows, i, out + i, stride);
  }
  for (; i < n; i += kLanes<T>) blur_down_block<kRows, 1>(gaussian, rows, i, out + i, stride);
}

// Rows of a strip from those of an image, blurred down the columns. rows: kernel + 3 pointers.
template <class T>
void blur_down(const Gaussian<T>& gaussian, const Strip<T>& image, const T** rows,
               const Strip<T>& strip) {
  const int64_t r = gaussian.radius;
  for (int64_t c = 0; c < strip.channels; ++c) {
    for (int64_t y = 0; y < strip.rows;) {
      const int64_t block = y + 4 <= strip.rows ? 4 : 1;
      for (int64_t i = 0; i < block + 2 * r; ++i) {
        rows[i] = image.row(c, mirrored(strip.top + y + i - r, image.rows));
      }
      T* const out = strip.row(c, y);
      if (block == 4) {
        blur_down_rows<4>(gaussian, rows, strip.stride, out, strip.stride);
      } else {
        blur_down_rows<1>(gaussian, rows, strip.stride, out, strip.stride);
      }
      y += block;
    }
  }
}

// Memory of the gradient: pointers and weights of blur_down's, and rows with all that flows out.
template <class T>
struct BlurBack {
  const T** rows;
  T* weights;
  T* padded;
  T* spread;

  static int64_t row_size(int64_t width, int64_t kernel) {
    return (width + 2 * kernel + 2 * kLanes<T>) / kLanes<T> * kLanes<T>;
  }
  static size_t bytes(int64_t width, int64_t kernel) {
    return Workspace::padded<const T*>(3 * kernel) + Workspace::padded<T>(3 * kernel) +
           2 * Workspace::padded<T>(row_size(width, kernel));
  }
  BlurBack(Workspace& memory, int64_t width, int64_t kernel)
      : rows(memory.take<const T*>(3 * kernel)),
        weights(memory.take<T>(3 * kernel)),
        padded(memory.take<T>(row_size(width, kernel))),
        spread(memory.take<T>(row_size(width, kernel))) {}
};

// The transpose of blur_across after blur_down: from the blurred image's gradient to the image's.
template <class T>
void blur_back(const Gaussian<T>& gaussian, const BlurBack<T>& memory, const Strip<T>& blurred,
               const Strip<T>& image) {
  const int64_t r = gaussian.radius, width = image.width, height = image.rows;
  std::fill_n(memory.padded, BlurBack<T>::row_size(width, 2 * r + 1), T(0));
  for (int64_t y = 0; y < height; ++y) {
    // Row y was read as itself and as its mirror images.
    int64_t taps = 0;
    const auto add = [&](int64_t place) {
      for (int64_t t = -r; t <= r; ++t) {
        if (place + t < 0 || place + t >= height) continue;
        memory.rows[taps] = blurred.row(0, place + t);
        memory.weights[taps++] = gaussian.weights[r + t];
      }
    };
    add(y);
    if (y > 0 && y <= r) add(-y);
    if (y < height - 1 && 2 * (height - 1) - y < height + r) add(2 * (height - 1) - y);
    combine_rows(memory.rows, memory.weights, taps, image.channels, image.stride, image.plane,
                 image.row(0, y), image.plane);

    for (int64_t c = 0; c < image.channels; ++c) {
      T* const row = image.row(c, y);
      std::copy_n(row, width, memory.padded + 2 * r);
      slide_row(memory.padded, gaussian.weights, 2 * r + 1, width + 2 * r, memory.spread);
      const T* const middle = memory.spread + r;
      std::copy_n(middle, width, row);
      for (int64_t i = 1; i <= r; ++i) {
        row[i] += middle[-i];
        row[width - 1 - i] += middle[width - 1 + i];
      }
    }
  }
}

}  // namespace sslk::augment
