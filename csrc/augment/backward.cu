// The gradient of images from that of their views, in two kernels.
//
// The first has a block for each view at a time, which takes the view's gradient back to before its
// segments, up to the resize; the forward is run once more as far as its values are needed. In the
// second each pixel of an image gathers from all views. No atomics: every sum has one order.
#include <algorithm>

#include "cuda.h"
#include "device_gradient.h"

namespace sslk::augment {
namespace {

constexpr int kThreads = kMostThreads;  // of those that gather
constexpr int kPullingThreads = 192;    // with more of them registers do not suffice
constexpr int kBlocksOfProcessor = 2;   // of those that pull
constexpr int64_t kViewsOfBlock =
    4;  // between the kernels, so that memory does not grow with batches

// ---- Views to where they were resized -----------------------------------------------------------

template <class T, class S, int kChannels>
__global__ void __launch_bounds__(kPullingThreads, sizeof(T) == 4 ? kBlocksOfProcessor : 1)
    pull_views(const GradientCall<T, kChannels> call) {
  __shared__ __align__(16) unsigned char of_block[sizeof(Shared<T>)];  // without its constructor
  Shared<T>& shared = *reinterpret_cast<Shared<T>*>(of_block);
  const DeviceCall<T, kChannels>& forward = call.forward;
  char* const memory = device::dynamic_shared<char>();
  T* const images = images_of_block(forward, memory, call.kept + 1);
  for (int64_t task = blockIdx.x; task < call.samples * forward.views; task += gridDim.x) {
    __syncthreads();  // all have left the view before
    if (threadIdx.x == 0) {
      shared.plan.make(forward.draws + call.place_of(task) * kRowLength, forward.frame);
      call.cuts[task] = Cut<T>(shared.plan);
    }
    __syncthreads();
    if (!shared.plan.fits) continue;
    ViewGradient<T, S, kChannels>(call, shared, memory, images, task).run();
  }
}

// ---- Views to their image -----------------------------------------------------------------------

template <class T, class S, int kChannels>
__global__ void __launch_bounds__(kThreads)
    gather_views(const GradientCall<T, kChannels> call, unsigned blocks_of_image) {
  const DeviceCall<T, kChannels>& forward = call.forward;
  const Frame& frame = forward.frame;
  const int64_t sample = blockIdx.x / blocks_of_image;
  const unsigned pixel = blockIdx.x % blocks_of_image * kThreads + threadIdx.x;
  if (pixel >= unsigned(frame.height * frame.width)) return;
  const int64_t y = pixel / unsigned(frame.width), x = pixel % unsigned(frame.width);
  Pixel<T, kChannels> sum = {};
  for (int64_t task = sample * forward.views; task < (sample + 1) * forward.views; ++task) {
    const DeviceImage<T, kChannels> gradient = {call.pulled + task * forward.image_values(),
                                                frame.view_height, frame.view_width};
    add_unresized(call.cuts[task], gradient, y, x, sum);
  }
  const Layout& layout = forward.out_layout;
  S* const out = static_cast<S*>(forward.out) + (call.first + sample) * layout.image +
                 y * layout.row + x * layout.column;
  for (int c = 0; c < kChannels; ++c) out[c * layout.channel] = from_real<S>(sum.of[c]);
}

// ---- Launches -----------------------------------------------------------------------------------

struct Resources {
  int64_t blocks, samples;  // at once
  int64_t kept;
  int64_t stage_bytes, dynamic_bytes;
  int64_t cut_bytes, pulled_bytes, image_bytes;  // of the workspace, in this order

  int64_t workspace_bytes() const { return cut_bytes + pulled_bytes + image_bytes; }
};

template <class T>
int resources_of(const Views& call, Resources& needed) {
  int processors = 0;
  if (const int code = device::count_processors(processors)) return code;
  const Frame& frame = call.frame;
  const int64_t image = frame.channels * frame.view_height * frame.view_width * int64_t(sizeof(T));
  const auto may = [&](int64_t stages) { return (frame.stages & stages) != 0; };
  const bool curved = may(kMayColour | kMaySolarize | kMayNoise);
  needed.kept = (curved && may(kMayRotate)) + may(kMayColour) +
                (may(kMayBlur) && may(kMaySolarize | kMayNoise));
  const bool several = may(kMayRotate | kMayColour | kMayBlur | kMayDiffColour);
  const int64_t images = several ? (needed.kept + 1) * image : 0;
  const bool in_shared = images <= kSharedBytes;

  const int64_t most = int64_t(processors) * kBlocksOfProcessor;
  needed.samples = std::min((kViewsOfBlock * most + call.views - 1) / call.views, call.batch);
  needed.blocks = std::min(most, needed.samples * call.views);
  const int64_t shared_images = in_shared ? images : 0;
  needed.stage_bytes = stage_bytes<T>(call.blur_kernel, shared_images);
  needed.dynamic_bytes = needed.stage_bytes + blur_bytes<T>(call.blur_kernel) + shared_images;
  needed.cut_bytes = (needed.samples * call.views * int64_t(sizeof(Cut<T>)) + 255) / 256 * 256;
  needed.pulled_bytes = (needed.samples * call.views * image + 255) / 256 * 256;
  needed.image_bytes = in_shared ? 0 : needed.blocks * images;
  return cudaSuccess;
}

template <class T, class S, int kChannels>
int launch(const Views& call, const void* grad, void* gradient, void* workspace, void* stream) {
  Resources needed;
  if (const int code = resources_of<T>(call, needed)) return code;
  char* const memory = static_cast<char*>(workspace);
  GradientCall<T, kChannels> on_device = {};
  on_device.forward = device_call_of<T, kChannels>(call);
  on_device.forward.out = gradient;
  on_device.forward.out_layout = call.image_layout;
  on_device.forward.stage_bytes = needed.stage_bytes;
  if (needed.image_bytes) {
    on_device.forward.workspace =
        reinterpret_cast<T*>(memory + needed.cut_bytes + needed.pulled_bytes);
  }
  on_device.kept = needed.kept;
  on_device.grad = static_cast<const T*>(grad);
  on_device.cuts = reinterpret_cast<Cut<T>*>(memory);
  on_device.pulled = reinterpret_cast<T*>(memory + needed.cut_bytes);

  const int64_t of_image = (call.frame.height * call.frame.width + kThreads - 1) / kThreads;
  if (of_image > INT32_MAX / std::max<int64_t>(needed.samples, 1)) {
    return cudaErrorInvalidConfiguration;
  }
  cudaLaunchConfig_t pull = {}, gather = {};
  pull.blockDim = dim3(kPullingThreads);
  gather.blockDim = dim3(kThreads);
  pull.stream = gather.stream = static_cast<cudaStream_t>(stream);
  pull.dynamicSmemBytes = size_t(needed.dynamic_bytes);
  for (int64_t first = 0; first < call.batch; first += needed.samples) {
    on_device.first = first;
    on_device.samples = std::min(needed.samples, call.batch - first);
    pull.gridDim = dim3(unsigned(std::min(needed.blocks, on_device.samples * call.views)));
    if (const int code = cudaLaunchKernelEx(&pull, pull_views<T, S, kChannels>, on_device)) {
      return code;
    }
    gather.gridDim = dim3(unsigned(on_device.samples * of_image));
    if (const int code = cudaLaunchKernelEx(&gather, gather_views<T, S, kChannels>, on_device,
                                            unsigned(of_image))) {
      return code;
    }
  }
  return cudaSuccess;
}

template <int kChannels>
int launch_for_type(const Views& call, const void* grad, void* gradient, void* workspace,
                    void* stream) {
  return with_pixel_type(call.image_layout.type, [&](auto zero) -> int {
    using S = decltype(zero);
    using T = std::conditional_t<std::is_same_v<S, double>, double, float>;
    if constexpr (std::is_same_v<S, uint8_t>) {
      return cudaErrorInvalidValue;
    } else {
      return launch<T, S, kChannels>(call, grad, gradient, workspace, stream);
    }
  });
}

}  // namespace
}  // namespace sslk::augment

extern "C" int64_t sslk_cuda_augment_backward_workspace(const sslk::augment::Views* call) {
  using namespace sslk::augment;
  Resources needed;
  const bool wide = call->image_layout.type == PixelType::kFloat64;
  const int code = wide ? resources_of<double>(*call, needed) : resources_of<float>(*call, needed);
  return code ? -int64_t(code) : needed.workspace_bytes();
}

extern "C" int sslk_cuda_augment_backward(const sslk::augment::Views* call, const void* grad,
                                          void* gradient, void* workspace, void* stream) {
  using namespace sslk::augment;
  switch (call->frame.channels) {
    case 1:
      return launch_for_type<1>(*call, grad, gradient, workspace, stream);
    case 3:
      return launch_for_type<3>(*call, grad, gradient, workspace, stream);
    default:
      return cudaErrorInvalidValue;
  }
}
