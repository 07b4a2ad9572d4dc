// Views out of images: a block for each view at a time, which goes through the view's segments.
//
// A segment begins with something that looks beyond the pixel and goes on with pointwise steps, as
// on the CPU (view.h). Between two segments lies the whole image: in shared memory where it is
// small, else in the workspace, of which every block has its part. No two blocks share anything,
// and sums are taken in one order: the result does not depend on the GPU.
#include <algorithm>
#include <limits>

#include "../device.h"
#include "cuda.h"
#include "device_sample.h"
#include "device_steps.h"
#include "read_row.h"

namespace sslk::augment {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksOfProcessor = 3;
constexpr int64_t kSharedBytes = 40 << 10;  // of two images: beside them there is little

// Of the weights of a blur: in T at all places, before that in double from the middle on.
template <class T>
SSLK_HOST_DEVICE constexpr int64_t blur_bytes(int64_t kernel) {
  const int64_t half = kernel / 2;
  return (2 * half + 2) * int64_t(sizeof(T)) + (half + 1) * int64_t(sizeof(double));
}

// ---- One view -----------------------------------------------------------------------------------

// What the threads of a block share.
template <class T>
struct Shared {
  Plan<T> plan;
  double partial[kThreads / device::kWarp];
};

template <class T, class S, int kChannels>
class DeviceView {
 public:
  using Value = Pixel<T, kChannels>;
  using Image = DeviceImage<T, kChannels>;

  __device__ DeviceView(const DeviceCall<T, kChannels>& call, Shared<T>& shared, T* weights,
                        T* images, int64_t image, int64_t place)
      : call_(call),
        plan_(shared.plan),
        program_(shared.plan.program),
        partial_(shared.partial),
        weights_(weights),
        before_{images, call.frame.view_height, call.frame.view_width},
        after_{images + call.image_values(), call.frame.view_height, call.frame.view_width},
        crop_(call, shared.plan, image),
        out_(place * call.out_layout.image) {}

  __device__ void run() {
    fill_weights();
    T mean = 0;
    for (int i = 0; i + 1 < program_.count; ++i) {
      const Entry next = program_.segments[i + 1].entry;
      T sum = 0;
      for_each_pixel([&](int64_t y, int64_t x) {
        const Value pixel = changed(program_.segments[i], mean, y, x);
        after_.store(y, x, pixel);
        if (uses_mean(next)) sum += share_in_mean(next, pixel);
      });
      __syncthreads();
      if (next == Entry::kBlur) {
        for_each_pixel([&](int64_t y, int64_t x) {
          before_.store(y, x, after_.blurred_across(weights_, radius_, y, x));
        });
        __syncthreads();
      } else {
        const Image other = before_;
        before_ = after_;
        after_ = other;
      }
      if (uses_mean(next)) {
        const double total = device::block_sum(double(sum), partial_);
        mean = T(total / values_in_mean(next, call_.frame));
      }
    }
    const Segment& last = program_.segments[program_.count - 1];
    for_each_pixel([&](int64_t y, int64_t x) { finish(last, mean, y, x); });
  }

  // For a row of draws that is not one of such images.
  __device__ void fill_with_nan() const {
    for_each_pixel([&](int64_t y, int64_t x) {
      for (int c = 0; c < kChannels; ++c) write(c, y, x, std::numeric_limits<T>::quiet_NaN());
    });
  }

 private:
  template <class F>
  __device__ void for_each_pixel(F&& f) const {
    const unsigned width = unsigned(call_.frame.view_width);
    const unsigned count = unsigned(call_.frame.view_height) * width;
    for (unsigned i = threadIdx.x; i < count; i += kThreads) f(i / width, i % width);
  }

  // Of the blur, at -radius ... radius; it is never the first thing, so that a barrier follows.
  __device__ void fill_weights() {
    if (!(program_.blur_sigma > 0)) return;
    const int64_t half = call_.blur_kernel / 2;
    double* const at = reinterpret_cast<double*>(weights_ + 2 * half + 2);
    for (int64_t i = threadIdx.x; i <= half; i += kThreads) {
      at[i] = gaussian_at(i, program_.blur_sigma);
    }
    __syncthreads();
    double total = 1;
    for (int64_t i = 1; i <= half; ++i) {
      total += 2 * at[i];
      if (at[i] > kSmallestWeight<T>) radius_ = i;
    }
    for (int64_t i = threadIdx.x; i < 2 * radius_ + 1; i += kThreads) {
      weights_[i] = T(at[i < radius_ ? radius_ - i : i - radius_] / total);
    }
  }

  __device__ Value entered(Entry entry, int64_t y, int64_t x) const {
    switch (entry) {
      case Entry::kResize:
        return crop_.at(y, x);
      case Entry::kRotate:
        return before_.rotated(plan_.rotation, y, x);
      case Entry::kBlur:
        return before_.blurred_down(weights_, radius_, y, x);
      default:
        return before_.load(y, x);
    }
  }

  __device__ Value changed(const Segment& segment, T mean, int64_t y, int64_t x) const {
    Value pixel = entered(segment.entry, y, x);
    const uint32_t number = uint32_t(y * call_.frame.view_width + x);
    for (int s = 0; s < segment.count; ++s) {
      apply_step(segment.steps[s], mean, program_.noise_seed, number, pixel);
    }
    return pixel;
  }

  // Translated, normalised, erased.
  __device__ void finish(const Segment& segment, T mean, int64_t y, int64_t x) const {
    const int64_t from_y = y - program_.down, from_x = x - program_.right;
    Value pixel = {};
    if (from_y >= 0 && from_y < call_.frame.view_height && from_x >= 0 &&
        from_x < call_.frame.view_width) {
      pixel = changed(segment, mean, from_y, from_x);
    }
    const Box& box = program_.erased;
    const bool erased =
        y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
    for (int c = 0; c < kChannels; ++c) {
      write(c, y, x, erased ? call_.erase_value : pixel.of[c] * call_.scale[c] + call_.shift[c]);
    }
  }

  __device__ void write(int c, int64_t y, int64_t x, T value) const {
    const Layout& layout = call_.out_layout;
    const int64_t at = out_ + c * layout.channel + y * layout.row + x * layout.column;
    with_pixel_type(layout.type, [&](auto zero) {
      using O = decltype(zero);
      if constexpr (!std::is_same_v<O, uint8_t>)
        static_cast<O*>(call_.out)[at] = from_real<O>(value);
    });
  }

  const DeviceCall<T, kChannels>& call_;
  const Plan<T>& plan_;
  const Program& program_;
  double* const partial_;
  T* const weights_;
  Image before_, after_;
  const CropSampler<T, S, kChannels> crop_;
  const int64_t out_;  // the view's first value in the output
  int64_t radius_ = 0;
};

template <class T, class S, int kChannels>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? kBlocksOfProcessor : 1)
    augment_views(const DeviceCall<T, kChannels> call) {
  __shared__ __align__(16) unsigned char memory[sizeof(Shared<T>)];  // without its constructor
  Shared<T>& shared = *reinterpret_cast<Shared<T>*>(memory);
  T* const weights = device::dynamic_shared<T>();
  const int64_t two_images = 2 * call.image_values();
  T* const images = call.workspace ? call.workspace + blockIdx.x * two_images
                                   : weights + blur_bytes<T>(call.blur_kernel) / int64_t(sizeof(T));
  for (int64_t task = blockIdx.x; task < call.views * call.batch; task += gridDim.x) {
    // The views of an image follow each other, while it is in the caches.
    const int64_t image = task / call.views;
    const int64_t place = task % call.views * call.batch + image;
    __syncthreads();  // all have left the view before
    if (threadIdx.x == 0) {
      shared.plan.make(call.draws + place * kRowLength, call.frame);
    }
    __syncthreads();
    DeviceView<T, S, kChannels> view(call, shared, weights, images, image, place);
    if (shared.plan.fits) {
      view.run();
    } else {
      view.fill_with_nan();
    }
  }
}

// ---- Launch -------------------------------------------------------------------------------------

struct Resources {
  int64_t blocks;
  int64_t dynamic_bytes, workspace_bytes;
};

// How many blocks there are at once, and where images between segments lie.
bool resources_of(const Views& call, Resources& needed) {
  int device = 0, processors = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) {
    return false;
  }
  const Frame& frame = call.frame;
  const bool wide = call.image_layout.type == PixelType::kFloat64;
  const int64_t bytes = wide ? 8 : 4;
  const int64_t images = 2 * frame.channels * frame.view_height * frame.view_width * bytes;
  const bool several = frame.stages & (kMayRotate | kMayColour | kMayBlur | kMayDiffColour);
  const bool in_shared = images <= kSharedBytes;
  needed.blocks = std::min(call.views * call.batch, int64_t(processors) * kBlocksOfProcessor);
  const int64_t blur =
      wide ? blur_bytes<double>(call.blur_kernel) : blur_bytes<float>(call.blur_kernel);
  needed.dynamic_bytes = blur + (several && in_shared ? images : 0);
  needed.workspace_bytes = several && !in_shared ? needed.blocks * images : 0;
  return true;
}

template <class T, class S, int kChannels>
int launch(const Views& call, void* out, const Layout& layout, void* workspace, void* stream) {
  Resources needed;
  if (!resources_of(call, needed)) return cudaErrorInvalidValue;
  if (needed.blocks == 0) return cudaSuccess;
  DeviceCall<T, kChannels> on_device = {
      call.frame,
      call.batch,
      call.views,
      call.images,
      call.image_layout,
      call.draws,
      call.blur_kernel,
      {},
      {},
      T(call.erase_value),
      out,
      layout,
      needed.workspace_bytes ? static_cast<T*>(workspace) : nullptr};
  for (int c = 0; c < kChannels; ++c) {
    on_device.scale[c] = call.mean ? T(1 / call.std[c]) : T(1);
    on_device.shift[c] = call.mean ? T(-call.mean[c] / call.std[c]) : T(0);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(needed.blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = size_t(needed.dynamic_bytes);
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, augment_views<T, S, kChannels>, on_device);
}

template <int kChannels>
int launch_for_type(const Views& call, void* out, const Layout& layout, void* workspace,
                    void* stream) {
  return with_pixel_type(call.image_layout.type, [&](auto zero) {
    using S = decltype(zero);
    using T = std::conditional_t<std::is_same_v<S, double>, double, float>;
    return launch<T, S, kChannels>(call, out, layout, workspace, stream);
  });
}

}  // namespace
}  // namespace sslk::augment

extern "C" int64_t sslk_cuda_augment_workspace(const sslk::augment::Views* call) {
  sslk::augment::Resources needed;
  return sslk::augment::resources_of(*call, needed) ? needed.workspace_bytes : -1;
}

extern "C" int sslk_cuda_augment_forward(const sslk::augment::Views* call, void* out,
                                         const sslk::augment::Layout* layout, void* workspace,
                                         void* stream) {
  using namespace sslk::augment;
  switch (call->frame.channels) {
    case 1:
      return launch_for_type<1>(*call, out, *layout, workspace, stream);
    case 3:
      return launch_for_type<3>(*call, out, *layout, workspace, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
