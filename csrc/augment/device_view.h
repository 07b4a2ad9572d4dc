// One view in the hands of a block: its segments, forwards. Both directions begin with it.
//
// A segment begins with something that looks beyond the pixel and goes on with pointwise steps, as
// on the CPU (view.h). Between two segments lies the whole image.
#pragma once

#include "../device.h"
#include "device_sample.h"
#include "device_steps.h"

namespace sslk::augment {

constexpr int kMostThreads = 256;
constexpr int64_t kSharedBytes = 40
                                 << 10;  // of images between segments: beside them there is little

// Of the weights of a blur: in T at all places, before that in double from the middle on.
template <class T>
SSLK_HOST_DEVICE constexpr int64_t blur_bytes(int64_t kernel) {
  const int64_t half = kernel / 2;
  return (2 * half + 2) * int64_t(sizeof(T)) + (half + 1) * int64_t(sizeof(double));
}

// What the threads of a block share.
template <class T>
struct Shared {
  Plan<T> plan;
  double partial[kMostThreads / device::kWarp];
};

// Calls f(y, x) for every pixel of a view, by the threads of a block.
template <class F>
__device__ void for_each_pixel(const Frame& frame, F&& f) {
  const unsigned width = unsigned(frame.view_width);
  const unsigned count = unsigned(frame.view_height) * width;
  for (unsigned i = threadIdx.x; i < count; i += blockDim.x) f(i / width, i % width);
}

template <class T, class S, int kChannels>
class DeviceView {
 public:
  using Value = Pixel<T, kChannels>;
  using Image = DeviceImage<T, kChannels>;

  // weights: memory that the threads share, blur_bytes of it.
  __device__ DeviceView(const DeviceCall<T, kChannels>& call, Shared<T>& shared, T* weights,
                        int64_t image)
      : call_(call),
        plan_(shared.plan),
        program_(shared.plan.program),
        partial_(shared.partial),
        weights_(weights),
        crop_(call, shared.plan, image) {}

  __device__ const T* weights() const { return weights_; }
  __device__ int64_t radius() const { return radius_; }
  __device__ const CropSampler<T, S, kChannels>& crop() const { return crop_; }

  // Of the blur, at -radius ... radius. Only behind another barrier all are there.
  __device__ void fill_weights() {
    if (!(program_.blur_sigma > 0)) return;
    const int64_t half = call_.blur_kernel / 2;
    double* const at = reinterpret_cast<double*>(weights_ + 2 * half + 2);
    for (int64_t i = threadIdx.x; i <= half; i += blockDim.x) {
      at[i] = gaussian_at(i, program_.blur_sigma);
    }
    __syncthreads();
    double total = 1;
    for (int64_t i = 1; i <= half; ++i) {
      total += 2 * at[i];
      if (at[i] > kSmallestWeight<T>) radius_ = i;
    }
    for (int64_t i = threadIdx.x; i < 2 * radius_ + 1; i += blockDim.x) {
      weights_[i] = T(at[i < radius_ ? radius_ - i : i - radius_] / total);
    }
  }

  // What the first step of a segment sees; before: the image that the segment begins with, if it is
  // not the first.
  __device__ Value entered(Entry entry, const Image& before, int64_t y, int64_t x) const {
    switch (entry) {
      case Entry::kResize:
        return crop_.at(y, x);
      case Entry::kRotate:
        return before.rotated(plan_.rotation, y, x);
      case Entry::kBlur:
        return before.blurred_down(weights_, radius_, y, x);
      default:
        return before.load(y, x);
    }
  }

  // What a segment makes of a pixel.
  __device__ Value changed(const Segment& segment, T mean, const Image& before, int64_t y,
                           int64_t x) const {
    Value pixel = entered(segment.entry, before, y, x);
    const uint32_t number = uint32_t(y * call_.frame.view_width + x);
    for (int s = 0; s < segment.count; ++s) {
      apply_step(segment.steps[s], mean, program_.noise_seed, number, pixel);
    }
    return pixel;
  }

  // Any segment but the last, from `before` to what the next one begins with, in `after`: already
  // blurred along rows where that is a blur, then by way of `passing`, and `after` may be `before`.
  // Returns the mean that the next one uses, else the one that came.
  __device__ T run_segment(int i, T mean, const Image& before, const Image& after,
                           const Image& passing) {
    const Entry next = program_.segments[i + 1].entry;
    const Image& made = next == Entry::kBlur ? passing : after;
    T sum = 0;
    for_each_pixel(call_.frame, [&](int64_t y, int64_t x) {
      const Value pixel = changed(program_.segments[i], mean, before, y, x);
      made.store(y, x, pixel);
      if (uses_mean(next)) sum += share_in_mean(next, pixel);
    });
    __syncthreads();
    if (next == Entry::kBlur) {
      for_each_pixel(call_.frame, [&](int64_t y, int64_t x) {
        after.store(y, x, passing.blurred_across(weights_, radius_, y, x));
      });
      __syncthreads();
    }
    if (!uses_mean(next)) return mean;
    return T(device::block_sum(double(sum), partial_) / values_in_mean(next, call_.frame));
  }

 private:
  const DeviceCall<T, kChannels>& call_;
  const Plan<T>& plan_;
  const Program& program_;
  double* const partial_;
  T* const weights_;
  const CropSampler<T, S, kChannels> crop_;
  int64_t radius_ = 0;
};

}  // namespace sslk::augment
