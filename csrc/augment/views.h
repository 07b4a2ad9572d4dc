// What a call of augmentation asks for, and its two directions.
#pragma once

#include <cstdint>

#include "pixels.h"
#include "program.h"

namespace sslk::augment {

// images [batch, channels, height, width], float64 when the accumulator is, draws [views, batch]
// rows, views [views, batch, channels, view_height, view_width].
struct Views {
  Frame frame;
  int64_t batch, views;
  const void* images;
  Layout image_layout;
  const float* draws;
  int64_t blur_kernel;
  const double* mean;  // per channel, or null: no normalisation
  const double* std;
  double erase_value;
};

// Fewer values than this take less time than it takes to wake a thread.
constexpr int64_t kValuesOfThread = int64_t(1) << 15;

// Writes the views. False when a row of draws is not one of such images and views; then what was
// written is of no use.
template <class T>
bool augment_forward(const Views& call, void* out, const Layout& layout);

// The gradient of the images, summed over their views, from that of the views, which lies
// contiguous in the accumulator's type. image_layout says what gradient looks like.
template <class T>
bool augment_backward(const Views& call, const T* view_gradient, void* gradient);

}  // namespace sslk::augment
