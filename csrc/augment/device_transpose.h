// The transposes of what moves pixels, as sums over the places that a pixel went to: every thread
// gathers what it writes, so that there are no atomics and the order of each sum is one.
#pragma once

#include <limits>

#include "device_sample.h"

namespace sslk::augment {

template <class T, int kChannels>
__device__ void add_times(const Pixel<T, kChannels>& x, T weight, Pixel<T, kChannels>& sum) {
  for (int c = 0; c < kChannels; ++c) sum.of[c] += x.of[c] * weight;
}

// Of a rotated image's gradient, what belongs to pixel (y, x) of the image as it was.
template <class T, int kChannels>
__device__ Pixel<T, kChannels> unrotated(const DeviceImage<T, kChannels>& gradient,
                                         const Rotation<T>& rotation, int64_t y, int64_t x) {
  Pixel<T, kChannels> sum = {};
  rotation.targets(y, x, [&](int64_t row, int64_t column, T weight) {
    add_times(gradient.load(row, column), weight, sum);
  });
  return sum;
}

// Of the gradient at(0) ... at(side - 1) of a blurred line, what belongs to a place of the line as
// it was. weights: those at -radius ... radius.
template <class T, int kChannels, class At>
__device__ Pixel<T, kChannels> unblurred(const T* weights, int64_t radius, int64_t place,
                                         int64_t side, At&& at) {
  Pixel<T, kChannels> sum = {};
  const auto add = [&](int64_t image) {
    const int64_t end = image + radius < side ? image + radius + 1 : side;
    for (int64_t i = image > radius ? image - radius : 0; i < end; ++i) {
      add_times(at(i), weights[i - image + radius], sum);
    }
  };
  // It was read as itself and as its mirror images.
  const int64_t beyond = 2 * (side - 1) - place;
  add(place);
  if (place > 0 && place <= radius) add(-place);
  if (place < side - 1 && beyond < side + radius) add(beyond);
  return sum;
}

// Which part of an image a view shows, for the gradient of the image.
template <class T>
struct Cut {
  bool fits, flipped_x = false, flipped_y = false;
  Box crop;
  ResizeAxis<T> down, across;

  __device__ explicit Cut(const Plan<T>& plan) : fits(plan.fits) {
    if (!fits) return;
    flipped_x = plan.program.horizontal_flip;
    flipped_y = plan.program.vertical_flip;
    crop = plan.program.crop;
    down = plan.down;
    across = plan.across;
  }
};

// Adds to sum what belongs to pixel (y, x) of the image, of the gradient of a view that has been
// multiplied by CropSampler::scale.
template <class T, int kChannels>
__device__ void add_unresized(const Cut<T>& cut, const DeviceImage<T, kChannels>& gradient,
                              int64_t y, int64_t x, Pixel<T, kChannels>& sum) {
  using I = Index<T>;
  if (!cut.fits) {
    for (int c = 0; c < kChannels; ++c) sum.of[c] = std::numeric_limits<T>::quiet_NaN();
    return;
  }
  const I down = I(y - cut.crop.top), right = I(x - cut.crop.left);
  if (down < 0 || down >= cut.crop.height || right < 0 || right >= cut.crop.width) return;
  const auto rows = cut.down.targets(down), columns = cut.across.targets(right);
  for (I i = rows.first; i < rows.end; ++i) {
    const T weight_y = cut.down.weight_between(down, i);
    if (weight_y == T(0)) continue;
    const int64_t row = cut.flipped_y ? gradient.height - 1 - i : i;
    Pixel<T, kChannels> of_row = {};
    for (I j = columns.first; j < columns.end; ++j) {
      const T weight_x = cut.across.weight_between(right, j);
      if (weight_x == T(0)) continue;
      const int64_t column = cut.flipped_x ? gradient.width - 1 - j : j;
      add_times(gradient.load(row, column), weight_x, of_row);
    }
    add_times(of_row, weight_y, sum);
  }
}

}  // namespace sslk::augment
