// Rotation about the centre, bilinear, zero outside.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rotation.h"
#include "strip.h"

namespace sslk::augment {

// Rows of a strip out of the image as it was.
template <class T>
void rotate(const Rotation<T>& rotation, const Strip<T>& image, const Strip<T>& strip) {
  for (int64_t y = 0; y < strip.rows; ++y) {
    for (int64_t x = 0; x < strip.width; x += kLanes<T>) {
      for (int64_t c = 0; c < strip.channels; ++c) store(strip.row(c, y) + x, Vec<T>{});
      rotation.corners(strip.top + y, x, [&](const auto& corner) {
        const auto at = corner.row * Index<T>(image.stride) + corner.column;
        for (int64_t c = 0; c < strip.channels; ++c) {
          // What has no weight may be NaN.
          const Vec<T> taken = gather<T>(image.row(c, 0), at) * corner.weight;
          T* const to = strip.row(c, y) + x;
          store(to, load(to) + (corner.weight != T(0) ? taken : Vec<T>{}));
        }
      });
    }
  }
}

// Adds to the image's gradient, zero before, what the rotated image's gives.
template <class T>
void rotate_back(const Rotation<T>& rotation, const Strip<T>& rotated, const Strip<T>& image) {
  for (int64_t y = 0; y < rotated.rows; ++y) {
    for (int64_t x = 0; x < rotated.width; x += kLanes<T>) {
      const int64_t lanes = std::min<int64_t>(kLanes<T>, rotated.width - x);
      rotation.corners(y, x, [&](const auto& corner) {
        for (int64_t c = 0; c < rotated.channels; ++c) {
          const T* const from = rotated.row(c, y) + x;
          for (int64_t lane = 0; lane < lanes; ++lane) {
            if (corner.weight[lane] == T(0)) continue;
            image.row(c, corner.row[lane])[corner.column[lane]] += from[lane] * corner.weight[lane];
          }
        }
      });
    }
  }
}

}  // namespace sslk::augment
