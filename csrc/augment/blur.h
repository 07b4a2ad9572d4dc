// Separable Gaussian blur, mirrored at the border.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../workspace.h"
#include "blur_loops.h"
#include "combine.h"
#include "gaussian.h"
#include "strip.h"

namespace sslk::augment {

// Weights at -radius ... radius. Those too small to be seen in T are left out.
template <class T>
struct Gaussian {
  int64_t radius = 0;
  T* weights = nullptr;

  // memory: as many as the kernel has.
  void fill(T* memory, int64_t kernel, double sigma) {
    const int64_t half = kernel / 2;
    const auto at = [&](int64_t i) { return gaussian_at(i, sigma); };
    double total = 1;
    radius = 0;
    for (int64_t i = 1; i <= half; ++i) {
      total += 2 * at(i);
      if (at(i) > kSmallestWeight<T>) radius = i;
    }
    weights = memory;
    for (int64_t i = -radius; i <= radius; ++i) weights[i + radius] = T(at(i) / total);
  }
};

// Values before a row, for its mirrored end, and in all with both ends.
template <class T>
int64_t mirrored_margin(int64_t radius) {
  return (radius + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}
template <class T>
int64_t mirrored_row_size(int64_t width, int64_t kernel) {
  return width + 2 * mirrored_margin<T>(kernel / 2) + 8 * kLanes<T>;
}

// Rows of a strip, blurred along the row, to the same rows of an image.
template <class T>
void blur_across(const Gaussian<T>& gaussian, const Strip<T>& strip, T* scratch,
                 const Strip<T>& out) {
  const int64_t r = gaussian.radius, width = strip.width;
  const SlideRow<T> slide_row = row_slide<T>(r);
  T* const middle = scratch + mirrored_margin<T>(r);
  for (int64_t c = 0; c < strip.channels; ++c) {
    for (int64_t y = 0; y < strip.rows; ++y) {
      std::copy_n(strip.row(c, y), width, middle);
      for (int64_t i = 1; i <= r; ++i) {
        middle[-i] = middle[i];
        middle[width - 1 + i] = middle[width - 1 - i];
      }
      slide_row(middle, gaussian.weights + r, r, width, out.row(c, y));
    }
  }
}

// Whether rows that are a multiple of kBlurRows can be scaled and streamed by blur_down.
template <class T>
bool blur_places(const Gaussian<T>& gaussian) {
  return columns_blur<T>(gaussian.radius) != nullptr;
}

// Some rows of an image from `top` on, blurred down the columns, to where place(channel) says.
// rows: kernel + 3 pointers.
template <class T, class Place>
void blur_down(const Gaussian<T>& gaussian, const Strip<T>& image, const T** rows, int64_t top,
               int64_t count, Place&& place) {
  const int64_t r = gaussian.radius;
  const BlurColumns<T> blur_columns = columns_blur<T>(r);
  for (int64_t c = 0; c < image.channels; ++c) {
    BlurredRows<T> out = place(c);
    for (int64_t y = 0; y < count; y += kBlurRows, out.data += kBlurRows * out.stride) {
      const int64_t n = std::min(kBlurRows, count - y);
      for (int64_t i = 0; i < n + 2 * r; ++i) {
        rows[i] = image.row(c, mirrored(top + y + i - r, image.rows));
      }
      if (n == kBlurRows && blur_columns) {
        blur_columns(gaussian.weights + r, rows, image.stride, out);
        continue;
      }
      for (int64_t i = 0; i < n; ++i) {
        combine_rows(rows + i, gaussian.weights, 2 * r + 1, 1, image.stride, 0,
                     out.data + i * out.stride, 0);
      }
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
    return width + 2 * kernel + 9 * kLanes<T>;
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
  const SlideRow<T> slide_row = row_slide<T>(r);
  std::fill_n(memory.padded, BlurBack<T>::row_size(width, 2 * r + 1), T(0));
  T* const begin = memory.padded + mirrored_margin<T>(r);
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
      std::copy_n(row, width, begin + r);
      slide_row(begin, gaussian.weights + r, r, width + 2 * r, memory.spread);
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
