// Where the pixels of a view come from, one at a time: the crop of an image, resized and flipped;
// or an image between two segments, as it is, rotated, or blurred.
#pragma once

#include "device_call.h"
#include "gaussian.h"
#include "read_row.h"
#include "rotation.h"
#include "window.h"

namespace sslk::augment {

// What to do with an image, for all threads of a block; one of them makes it.
template <class T>
struct Plan {
  bool fits;
  Program program;
  ResizeAxis<T> down, across;
  Rotation<T> rotation;

  __device__ void make(const float* row, const Frame& frame) {
    fits = read_row(row, frame, program);
    if (!fits) return;
    down = ResizeAxis<T>(program.crop.height, frame.view_height);
    across = ResizeAxis<T>(program.crop.width, frame.view_width);
    if (program.rotation != 0) {
      rotation = Rotation<T>(program.rotation, frame.view_height, frame.view_width);
    }
  }
};

// S is the type of the images' pixels.
template <class T, class S, int kChannels>
class CropSampler {
 public:
  __device__ CropSampler(const DeviceCall<T, kChannels>& call, const Plan<T>& plan, int64_t image)
      : layout_(call.image_layout),
        x_(plan.across),
        y_(plan.down),
        flipped_x_(plan.program.horizontal_flip),
        flipped_y_(plan.program.vertical_flip) {
    const Box& crop = plan.program.crop;
    first_ = static_cast<const S*>(call.images) + image * layout_.image + crop.top * layout_.row +
             crop.left * layout_.column;
  }

  __device__ const S* first() const { return first_; }
  // The first pixel of a row's channel.
  __device__ const S* row(int64_t i, int c) const {
    return first_ + i * layout_.row + c * layout_.channel;
  }

  // rows: this, or StagedRows.
  template <class Rows>
  __device__ Pixel<T, kChannels> at(const Rows& rows, int64_t y, int64_t x) const {
    using I = Index<T>;
    const auto down = y_.window(I(y), flipped_y_), across = x_.window(I(x), flipped_x_);
    const T scale_y = (std::is_same_v<S, uint8_t> ? T(1) / T(255) : T(1)) / total(y_, down);
    const T scale_x = T(1) / total(x_, across);
    Pixel<T, kChannels> sum = {};
    for (I i = 0; i < down.count; ++i) {
      const S* row[kChannels];
      for (int c = 0; c < kChannels; ++c) row[c] = rows.row(down.first + i, c);
      Pixel<T, kChannels> of_row = {};
      for (I j = 0; j < across.count; ++j) {
        const T weight = x_.weight(across, j) * scale_x;
        const int64_t column = (across.first + j) * layout_.column;
        for (int c = 0; c < kChannels; ++c) of_row.of[c] += T(to_real(row[c][column])) * weight;
      }
      const T weight = y_.weight(down, i) * scale_y;
      for (int c = 0; c < kChannels; ++c) sum.of[c] += of_row.of[c] * weight;
    }
    return sum;
  }

  // What the weights of a pixel of the view are multiplied by.
  __device__ T scale(int64_t y, int64_t x) const {
    const auto down = y_.window(Index<T>(y), flipped_y_);
    const auto across = x_.window(Index<T>(x), flipped_x_);
    return T(1) / total(y_, down) * (T(1) / total(x_, across));
  }

 private:
  static __device__ T total(const ResizeAxis<T>& axis, const typename ResizeAxis<T>::Window& w) {
    T sum = 0;
    for (Index<T> i = 0; i < w.count; ++i) sum += axis.weight(w, i);
    return sum;
  }

  const Layout& layout_;
  const ResizeAxis<T>&x_, &y_;
  const bool flipped_x_, flipped_y_;
  const S* first_;
};

// An image between two segments: channels apart, rows without gaps.
template <class T, int kChannels>
struct DeviceImage {
  T* data;
  int64_t height, width;

  __device__ T* at(int c, int64_t y, int64_t x) const {
    return data + (c * height + y) * width + x;
  }
  __device__ Pixel<T, kChannels> load(int64_t y, int64_t x) const {
    Pixel<T, kChannels> pixel;
    for (int c = 0; c < kChannels; ++c) pixel.of[c] = *at(c, y, x);
    return pixel;
  }
  __device__ void store(int64_t y, int64_t x, const Pixel<T, kChannels>& pixel) const {
    for (int c = 0; c < kChannels; ++c) *at(c, y, x) = pixel.of[c];
  }

  __device__ Pixel<T, kChannels> rotated(const Rotation<T>& rotation, int64_t y, int64_t x) const {
    Pixel<T, kChannels> sum = {};
    rotation.corners(y, x, [&](const auto& corner) {
      // What has no weight may be NaN.
      if (corner.weight == T(0)) return;
      for (int c = 0; c < kChannels; ++c) {
        sum.of[c] += *at(c, corner.row, corner.column) * corner.weight;
      }
    });
    return sum;
  }

  // weights: those at -radius ... radius.
  __device__ Pixel<T, kChannels> blurred_down(const T* weights, int64_t radius, int64_t y,
                                              int64_t x) const {
    Pixel<T, kChannels> sum = {};
    for (int64_t t = -radius; t <= radius; ++t) {
      const int64_t row = mirrored(y + t, height);
      for (int c = 0; c < kChannels; ++c) sum.of[c] += *at(c, row, x) * weights[t + radius];
    }
    return sum;
  }
};

}  // namespace sslk::augment
