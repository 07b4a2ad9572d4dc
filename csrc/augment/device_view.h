// One view in the hands of a block: its segments, forwards. Both directions begin with it.
//
// A segment begins with something that looks beyond the pixel and goes on with pointwise steps, as
// on the CPU (view.h). Between two segments lies the whole image.
#pragma once

#include "../device.h"
#include "device_sample.h"
#include "device_stage.h"
#include "device_steps.h"

namespace sslk::augment {

constexpr int kMostThreads = 256;
constexpr int64_t kSharedBytes = 24 << 10;   // of images between segments
constexpr int64_t kDynamicBytes = 46 << 10;  // 48 KiB with the static: more must be asked for

// Of the weights of a blur: in T at all places, before that in double from the middle on.
template <class T>
SSLK_HOST_DEVICE constexpr int64_t blur_bytes(int64_t kernel) {
  const int64_t half = kernel / 2;
  return (2 * half + 2) * int64_t(sizeof(T)) + (half + 1) * int64_t(sizeof(double));
}

// Dynamic shared memory: the stage, weights of the blur, and images if they lie there.
template <class T>
SSLK_HOST_DEVICE int64_t stage_bytes(int64_t kernel, int64_t image_bytes) {
  const int64_t left = kDynamicBytes - blur_bytes<T>(kernel) - image_bytes;
  return left < 0 ? 0 : left / 32 * 32;
}

// What the threads of a block share.
template <class T>
struct Shared {
  Plan<T> plan;
  double partial[kMostThreads / device::kWarp];
};

// The images between segments of this block, `count` of them; memory: dynamic shared memory.
template <class T, int kChannels>
__device__ T* images_of_block(const DeviceCall<T, kChannels>& call, char* memory, int64_t count) {
  if (call.workspace) return call.workspace + blockIdx.x * count * call.image_values();
  return reinterpret_cast<T*>(memory + call.stage_bytes + blur_bytes<T>(call.blur_kernel));
}

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

  // memory: dynamic shared memory.
  __device__ DeviceView(const DeviceCall<T, kChannels>& call, Shared<T>& shared, char* memory,
                        int64_t image)
      : call_(call),
        plan_(shared.plan),
        program_(shared.plan.program),
        partial_(shared.partial),
        stage_(memory),
        weights_(reinterpret_cast<T*>(memory + call.stage_bytes)),
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
        return crop_.at(crop_, y, x);
      case Entry::kRotate:
        return before.rotated(plan_.rotation, y, x);
      case Entry::kBlur:
        return before.blurred_down(weights_, radius_, y, x);
      default:
        return before.load(y, x);
    }
  }

  // Calls f(y, x, what the first step of a segment sees) for every pixel.
  template <class F>
  __device__ void for_each_entered(Entry entry, const Image& before, F&& f) const {
    if (entry == Entry::kResize) {
      StagedRows<T, S, kChannels> rows(call_, program_.crop, crop_.first(), stage_);
      if (plan_.down.taps() <= rows.slots()) return for_each_resized(rows, f);
    }
    for_each_pixel(call_.frame,
                   [&](int64_t y, int64_t x) { f(y, x, entered(entry, before, y, x)); });
  }

  // The steps of a segment.
  __device__ void change(const Segment& segment, T mean, int64_t y, int64_t x, Value& pixel) const {
    const uint32_t number = uint32_t(y * call_.frame.view_width + x);
    for (int s = 0; s < segment.count; ++s) {
      apply_step(segment.steps[s], mean, program_.noise_seed, number, pixel);
    }
  }

  // Any segment but the last, from `before` to what the next one begins with, in `after`: already
  // blurred along rows where that is a blur, then by way of `passing`, and `after` may be `before`.
  // Returns the mean that the next one uses, else the one that came.
  __device__ T run_segment(int i, T mean, const Image& before, const Image& after,
                           const Image& passing) {
    const Entry next = program_.segments[i + 1].entry;
    const Image& made = next == Entry::kBlur ? passing : after;
    T sum = 0;
    const Segment& segment = program_.segments[i];
    for_each_entered(segment.entry, before, [&](int64_t y, int64_t x, Value pixel) {
      change(segment, mean, y, x, pixel);
      made.store(y, x, pixel);
      if (uses_mean(next)) sum += share_in_mean(next, pixel);
    });
    __syncthreads();
    if (next == Entry::kBlur) {
      blur_across(passing, after);
      __syncthreads();
    }
    if (!uses_mean(next)) return mean;
    return T(device::block_sum(double(sum), partial_) / values_in_mean(next, call_.frame));
  }

 private:
  // Some rows of the view at a time, in the order of the crop's, of as many as fit into the stage.
  template <class F>
  __device__ void for_each_resized(StagedRows<T, S, kChannels>& rows, F&& f) const {
    const int height = int(call_.frame.view_height), width = int(call_.frame.view_width);
    const auto first_of = [&](int y) { return int(plan_.down.window(y, false).first); };
    const auto end_of = [&](int y) {
      const auto window = plan_.down.window(y, false);
      return int(window.first + window.count);
    };
    for (int begin = 0, end; begin < height; begin = end) {
      const int first = first_of(begin);
      for (end = begin + 1; end < height && end_of(end) - first <= rows.slots();) ++end;
      __syncthreads();  // those before are of no use any more
      rows.load(first, end_of(end - 1));
      __syncthreads();
      for (int i = int(threadIdx.x); i < (end - begin) * width; i += int(blockDim.x)) {
        const int down = begin + i / width, x = i % width;
        const int y = program_.vertical_flip ? height - 1 - down : down;
        f(y, x, crop_.at(rows, y, x));
      }
    }
  }

  // Rows that do not lie in shared memory are brought there, since each of their values is read
  // many times, and off the boundaries of sectors.
  __device__ void blur_across(const Image& from, const Image& to) const {
    const int width = int(call_.frame.view_width);
    const int64_t lines = kChannels * call_.frame.view_height;
    const int64_t fit = call_.stage_bytes / (width * int64_t(sizeof(T)));
    const bool staged = call_.workspace && fit > 0;
    T* const stage = reinterpret_cast<T*>(stage_);
    for (int64_t begin = 0, end; begin < lines; begin = end) {
      end = staged && begin + fit < lines ? begin + fit : lines;
      const int count = int(end - begin) * width;
      const T* source = from.data + begin * width;
      if (staged) {
        __syncthreads();
        for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) stage[i] = source[i];
        __syncthreads();
        source = stage;
      }
      for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) {
        to.data[begin * width + i] = blurred(source + i / width * width, i % width);
      }
    }
  }
  __device__ T blurred(const T* line, int x) const {
    T sum = 0;
    for (int64_t t = -radius_; t <= radius_; ++t) {
      sum += line[mirrored(x + t, call_.frame.view_width)] * weights_[t + radius_];
    }
    return sum;
  }

  const DeviceCall<T, kChannels>& call_;
  const Plan<T>& plan_;
  const Program& program_;
  double* const partial_;
  char* const stage_;
  T* const weights_;
  const CropSampler<T, S, kChannels> crop_;
  int64_t radius_ = 0;
};

}  // namespace sslk::augment
