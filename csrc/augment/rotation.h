// Where the pixels of a rotated image come from: about the centre, bilinear, zero outside.
#pragma once

#include <cmath>
#include <cstdint>

#include "lanes.h"

namespace sslk::augment {

template <class T>
class Rotation {
 public:
  Rotation() = default;
  SSLK_INLINE Rotation(float degrees, int64_t height, int64_t width)
      : height_(height), width_(width), middle_x_(T(width - 1) / 2), middle_y_(T(height - 1) / 2) {
    const double radians = double(degrees) * (3.14159265358979323846 / 180);
    cos_ = T(std::cos(radians));
    sin_ = T(std::sin(radians));
  }

  // One of the four pixels around each source position: its index and its weight, 0 outside.
  struct Corner {
    Vec<Index<T>> row, column;
    Vec<T> weight;
  };

  // For the pixels of row y from x on, calls f(corner) four times.
  template <class F>
  SSLK_INLINE void corners(int64_t y, int64_t x, F&& f) const {
    const Vec<T> right = to_float<T>(lane_numbers<T>() + Index<T>(x)) - middle_x_;
    const Vec<T> down = broadcast(T(y) - middle_y_);
    // Rounding by rounding as the definition: one ulp of a position moves a weight by 1e-5.
    const Vec<T> from_x = rounded(right * cos_) - rounded(down * sin_) + middle_x_;
    const Vec<T> from_y = rounded(right * sin_) + rounded(down * cos_) + middle_y_;
    const Vec<T> left = floor(from_x), top = floor(from_y);
    for (int dy = 0; dy < 2; ++dy) {
      for (int dx = 0; dx < 2; ++dx) {
        const Vec<T> column = left + T(dx), row = top + T(dy);
        const Vec<T> weight = (T(1) - absolute(from_x - column)) * (T(1) - absolute(from_y - row));
        const auto inside =
            (column >= T(0)) & (column < T(width_)) & (row >= T(0)) & (row < T(height_));
        f(Corner{within(row, height_), within(column, width_), inside ? weight : Vec<T>{}});
      }
    }
  }

 private:
  static SSLK_INLINE Vec<T> floor(Vec<T> x) {
    const Vec<T> whole = to_float<T>(truncated<T>(x));
    return whole > x ? whole - T(1) : whole;
  }
  static SSLK_INLINE Vec<Index<T>> within(Vec<T> at, int64_t side) {
    Vec<Index<T>> i = truncated<T>(at);
    i = i > 0 ? i : Vec<Index<T>>{};
    return i < Index<T>(side - 1) ? i : Vec<Index<T>>{} + Index<T>(side - 1);
  }

  int64_t height_, width_;
  T middle_x_, middle_y_, cos_, sin_;
};

}  // namespace sslk::augment
