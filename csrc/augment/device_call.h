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
  int64_t stage_bytes;  // of shared memory, for rows on their way
  T* workspace;         // the images of each block, or null when they lie in shared memory

  SSLK_HOST_DEVICE int64_t image_values() const {
    return kChannels * frame.view_height * frame.view_width;
  }
};

// Without what is written.
template <class T, int kChannels>
DeviceCall<T, kChannels> device_call_of(const Views& call) {
  DeviceCall<T, kChannels> made = {};
  made.frame = call.frame;
  made.batch = call.batch;
  made.views = call.views;
  made.images = call.images;
  made.image_layout = call.image_layout;
  made.draws = call.draws;
  made.blur_kernel = call.blur_kernel;
  made.erase_value = T(call.erase_value);
  for (int c = 0; c < kChannels; ++c) {
    made.scale[c] = call.mean ? T(1 / call.std[c]) : T(1);
    made.shift[c] = call.mean ? T(-call.mean[c] / call.std[c]) : T(0);
  }
  return made;
}

template <class T, int kChannels>
struct Pixel {
  T of[kChannels];
};

}  // namespace sslk::augment
