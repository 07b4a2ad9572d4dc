// A call of augmentation as its kernel sees it, and pixels on their way through it.
#pragma once

#include "views.h"

namespace sslk::augment {

// Views, with what lies in the memory of the host as values. T is the accumulator.
template <class T, int kChannels>
struct DeviceCall {
  Frame frame;
  int64_t batch, views;
  const void* images;
  Layout image_layout;
  const float* draws;
  int64_t blur_kernel;
  T scale[kChannels], shift[kChannels], erase_value;
  void* out;
  Layout out_layout;
  T* workspace;  // two images a block, or null when they lie in shared memory

  SSLK_HOST_DEVICE int64_t image_values() const {
    return kChannels * frame.view_height * frame.view_width;
  }
};

template <class T, int kChannels>
struct Pixel {
  T of[kChannels];
};

}  // namespace sslk::augment
