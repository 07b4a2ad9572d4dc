// The way back through one view, by the threads of a block: its segments are run again, what they
// need is kept, and the gradient goes from the last to the first.
#pragma once

#include "device_reverse.h"
#include "device_transpose.h"
#include "device_view.h"

namespace sslk::augment {

template <class T, int kChannels>
struct GradientCall {
  DeviceCall<T, kChannels> forward;  // its workspace: `kept` + 1 images of each block
  int64_t kept;
  const T* grad;           // of the views, [views, batch, channels, view_height, view_width]
  int64_t first, samples;  // these images
  T* pulled;               // [samples, views]: the gradient of what the resize made
  Cut<T>* cuts;            // [samples, views]

  // A task is one of `samples` times `views`.
  SSLK_HOST_DEVICE int64_t image_of(int64_t task) const { return first + task / forward.views; }
  // Among all views, in the order of draws and grad.
  SSLK_HOST_DEVICE int64_t place_of(int64_t task) const {
    return task % forward.views * forward.batch + image_of(task);
  }
};

template <class T, class S, int kChannels>
class ViewGradient {
 public:
  using Value = Pixel<T, kChannels>;
  using Image = DeviceImage<T, kChannels>;

  // images: memory of call.kept + 1.
  __device__ ViewGradient(const GradientCall<T, kChannels>& call, Shared<T>& shared, char* memory,
                          T* images, int64_t task)
      : call_(call.forward),
        plan_(shared.plan),
        program_(shared.plan.program),
        partial_(shared.partial),
        view_(call.forward, shared, memory, call.image_of(task)),
        kept_(images),
        spare_(image_at(images + call.kept * call_.image_values())),
        pulled_(image_at(call.pulled + task * call_.image_values())),
        grad_(call.grad + call.place_of(task) * call_.image_values()) {}

  __device__ void run() {
    view_.fill_weights();
    int last = program_.count - 1;
    while (last >= 0 && !needs_input(program_.segments[last])) --last;
    T mean = 0;
    for (int i = 0; i < last; ++i) {
      mean = view_.run_segment(i, mean, kept(i), kept(i + 1), spare_);
    }
    __syncthreads();  // the weights are there in any case
    Image gradient = spare_, other = pulled_;
    T share = 0;  // of each value in the gradient of the mean that the next segment uses
    for (int i = program_.count - 1; i >= 0; --i) {
      const Segment& segment = program_.segments[i];
      const Image& to = segment.entry == Entry::kResize ? pulled_ : gradient;
      T to_mean = 0;
      for_each_pixel(call_.frame, [&](int64_t y, int64_t x) {
        Value pixel = i + 1 == program_.count ? from_view(y, x) : gradient.load(y, x);
        if (share != T(0)) add_share_in_mean(program_.segments[i + 1].entry, share, pixel);
        Value input = {};
        if (needs_input(segment)) input = view_.entered(segment.entry, kept(i), y, x);
        const uint32_t number = uint32_t(y * call_.frame.view_width + x);
        to_mean += reverse_steps(segment, mean, program_.noise_seed, number, input, pixel);
        if (segment.entry == Entry::kResize) {
          const T scale = view_.crop().scale(y, x);
          for (int c = 0; c < kChannels; ++c) pixel.of[c] *= scale;
        }
        to.store(y, x, pixel);
      });
      share = 0;
      if (uses_mean(segment.entry)) {
        const double total = device::block_sum(double(to_mean), partial_);
        share = T(total / values_in_mean(segment.entry, call_.frame));
      } else if (segment.entry != Entry::kResize) {
        __syncthreads();
        reverse_entry(segment.entry, gradient, other);
      }
    }
  }

 private:
  __device__ Image image_at(T* data) const {
    return {data, call_.frame.view_height, call_.frame.view_width};
  }
  // What a segment began with; the first one did with none.
  __device__ Image kept(int segment) const {
    return image_at(kept_ + (segment > 0 ? segment - 1 : 0) * call_.image_values());
  }

  // Back through erasing, normalisation and translation.
  __device__ Value from_view(int64_t y, int64_t x) const {
    y += program_.down;
    x += program_.right;
    Value pixel = {};
    const Box& box = program_.erased;
    const bool erased =
        y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
    const int64_t height = call_.frame.view_height, width = call_.frame.view_width;
    if (y < 0 || y >= height || x < 0 || x >= width || erased) return pixel;
    for (int c = 0; c < kChannels; ++c) {
      pixel.of[c] = grad_[(c * height + y) * width + x] * call_.scale[c];
    }
    return pixel;
  }

  // From the gradient of what an entry made to that of the image it was made from, in `gradient`
  // again; `other` is of use no more.
  __device__ void reverse_entry(Entry entry, Image& gradient, Image& other) const {
    if (entry == Entry::kRotate) {
      for_each_pixel(call_.frame, [&](int64_t y, int64_t x) {
        other.store(y, x, unrotated(gradient, plan_.rotation, y, x));
      });
      const Image turned = other;
      other = gradient;
      gradient = turned;
    } else {
      const T* const weights = view_.weights();
      const int64_t radius = view_.radius();
      for_each_pixel(call_.frame, [&](int64_t y, int64_t x) {
        const auto down = [&](int64_t i) { return gradient.load(i, x); };
        other.store(y, x, unblurred<T, kChannels>(weights, radius, y, gradient.height, down));
      });
      __syncthreads();
      for_each_pixel(call_.frame, [&](int64_t y, int64_t x) {
        const auto across = [&](int64_t i) { return other.load(y, i); };
        gradient.store(y, x, unblurred<T, kChannels>(weights, radius, x, other.width, across));
      });
    }
    __syncthreads();
  }

  const DeviceCall<T, kChannels>& call_;
  const Plan<T>& plan_;
  const Program& program_;
  double* const partial_;
  DeviceView<T, S, kChannels> view_;
  T* const kept_;
  const Image spare_, pulled_;
  const T* const grad_;
};

}  // namespace sslk::augment
