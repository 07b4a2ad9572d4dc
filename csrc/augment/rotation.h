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
    const Source from = source(y, x);
    const Vec<T> left = floor(from.x), top = floor(from.y);
    for (int dy = 0; dy < 2; ++dy) {
      for (int dx = 0; dx < 2; ++dx) {
        const Vec<T> column = left + T(dx), row = top + T(dy);
        const Vec<T> weight = (T(1) - absolute(from.x - column)) * (T(1) - absolute(from.y - row));
        const auto inside =
            (column >= T(0)) & (column < T(width_)) & (row >= T(0)) & (row < T(height_));
        f(Corner{within(row, height_), within(column, width_), inside ? weight : Vec<T>{}});
      }
    }
  }

  // Where vectors have one lane: calls f(row, column, weight) for the pixels of the rotated image
  // that pixel (y, x) went to. Their sources lie less than a pixel from it on either axis, and they
  // themselves within the square root of 2 of where it was turned to.
  template <class F>
  SSLK_INLINE void targets(int64_t y, int64_t x, F&& f) const {
    const T right = T(x) - middle_x_, down = T(y) - middle_y_;
    const T left = floor(right * cos_ + down * sin_ + middle_x_) - T(1);
    const T top = floor(down * cos_ - right * sin_ + middle_y_) - T(1);
    for (int place = 0; place < 16; ++place) {
      const T column = left + T(place % 4), row = top + T(place / 4);
      if (!(column >= T(0) && column < T(width_) && row >= T(0) && row < T(height_))) continue;
      const Source from = source(int64_t(row), int64_t(column));
      const T across = T(1) - absolute(from.x - T(x)), along = T(1) - absolute(from.y - T(y));
      if (across > T(0) && along > T(0)) f(int64_t(row), int64_t(column), across * along);
    }
  }

 private:
  // Where pixels of the rotated image come from.
  struct Source {
    Vec<T> x, y;
  };
  // Of row y from x on.
  SSLK_INLINE Source source(int64_t y, int64_t x) const {
    const Vec<T> right = to_float<T>(lane_numbers<T>() + Index<T>(x)) - middle_x_;
    const Vec<T> down = broadcast(T(y) - middle_y_);
    // Rounding by rounding as the definition: one ulp of a position moves a weight by 1e-5.
    return {rounded(right * cos_) - rounded(down * sin_) + middle_x_,
            rounded(right * sin_) + rounded(down * cos_) + middle_y_};
  }

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
