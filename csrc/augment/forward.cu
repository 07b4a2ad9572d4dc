// Views out of images: a block for each view at a time, which goes through the view's segments.
//
// The images between segments are in shared memory where they are small, else in the workspace, of
// which every block has its part. No two blocks share anything, and sums are taken in one order:
// the result does not depend on the GPU.
#include <algorithm>
#include <limits>

#include "cuda.h"
#include "device_view.h"

namespace sslk::augment {
namespace {

constexpr int kThreads = kMostThreads;
constexpr int kBlocksOfProcessor = 2;  // with more of them registers do not suffice

template <class T, class S, int kChannels>
class ViewMaker {
 public:
  using Value = Pixel<T, kChannels>;
  using Image = DeviceImage<T, kChannels>;

  // images: memory of two.
  __device__ ViewMaker(const DeviceCall<T, kChannels>& call, Shared<T>& shared, char* memory,
                       T* images, int64_t image, int64_t place)
      : call_(call),
        program_(shared.plan.program),
        view_(call, shared, memory, image),
        before_{images, call.frame.view_height, call.frame.view_width},
        after_{images + call.image_values(), call.frame.view_height, call.frame.view_width},
        out_(place * call.out_layout.image) {}

  __device__ void run() {
    view_.fill_weights();
    T mean = 0;
    for (int i = 0; i + 1 < program_.count; ++i) {
      const bool blurs = program_.segments[i + 1].entry == Entry::kBlur;
      mean = view_.run_segment(i, mean, before_, blurs ? before_ : after_, after_);
      if (blurs) continue;
      const Image other = before_;
      before_ = after_;
      after_ = other;
    }
    const Segment& last = program_.segments[program_.count - 1];
    if (program_.down == 0 && program_.right == 0) {
      view_.for_each_entered(last.entry, before_, [&](int64_t y, int64_t x, Value pixel) {
        view_.change(last, mean, y, x, pixel);
        finish(y, x, pixel);
      });
    } else {
      for_each_pixel(call_.frame,
                     [&](int64_t y, int64_t x) { finish(y, x, translated(last, mean, y, x)); });
    }
  }

  // For a row of draws that is not one of such images.
  __device__ void fill_with_nan() const {
    for_each_pixel(call_.frame, [&](int64_t y, int64_t x) {
      for (int c = 0; c < kChannels; ++c) write(c, y, x, std::numeric_limits<T>::quiet_NaN());
    });
  }

 private:
  // What the last segment makes of the pixel that is seen at (y, x), or black.
  __device__ Value translated(const Segment& segment, T mean, int64_t y, int64_t x) const {
    const Frame& frame = call_.frame;
    y -= program_.down;
    x -= program_.right;
    Value pixel = {};
    if (y < 0 || y >= frame.view_height || x < 0 || x >= frame.view_width) return pixel;
    pixel = view_.entered(segment.entry, before_, y, x);
    view_.change(segment, mean, y, x, pixel);
    return pixel;
  }

  // Normalised, erased.
  __device__ void finish(int64_t y, int64_t x, const Value& pixel) const {
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
  const Program& program_;
  DeviceView<T, S, kChannels> view_;
  Image before_, after_;
  const int64_t out_;  // the view's first value in the output
};

template <class T, class S, int kChannels>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? kBlocksOfProcessor : 1)
    augment_views(const DeviceCall<T, kChannels> call) {
  __shared__ __align__(16) unsigned char of_block[sizeof(Shared<T>)];  // without its constructor
  Shared<T>& shared = *reinterpret_cast<Shared<T>*>(of_block);
  char* const memory = device::dynamic_shared<char>();
  T* const images = images_of_block(call, memory, 2);
  for (int64_t task = blockIdx.x; task < call.views * call.batch; task += gridDim.x) {
    // The views of an image follow each other, while it is in the caches.
    const int64_t image = task / call.views;
    const int64_t place = task % call.views * call.batch + image;
    __syncthreads();  // all have left the view before
    if (threadIdx.x == 0) {
      shared.plan.make(call.draws + place * kRowLength, call.frame);
    }
    __syncthreads();
    ViewMaker<T, S, kChannels> view(call, shared, memory, images, image, place);
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
  int64_t stage_bytes, dynamic_bytes, workspace_bytes;
};

// How many blocks there are at once, and where images between segments lie.
template <class T>
int resources_of(const Views& call, Resources& needed) {
  int processors = 0;
  if (const int code = device::count_processors(processors)) return code;
  const Frame& frame = call.frame;
  const bool several = frame.stages & (kMayRotate | kMayColour | kMayBlur | kMayDiffColour);
  const int64_t image = frame.channels * frame.view_height * frame.view_width * int64_t(sizeof(T));
  const int64_t images = several ? 2 * image : 0;
  const int64_t shared_images = images <= kSharedBytes ? images : 0;
  needed.blocks = std::min(call.views * call.batch, int64_t(processors) * kBlocksOfProcessor);
  needed.stage_bytes = stage_bytes<T>(call.blur_kernel, shared_images);
  needed.dynamic_bytes = needed.stage_bytes + blur_bytes<T>(call.blur_kernel) + shared_images;
  needed.workspace_bytes = needed.blocks * (images - shared_images);
  return cudaSuccess;
}

template <class T, class S, int kChannels>
int launch(const Views& call, void* out, const Layout& layout, void* workspace, void* stream) {
  Resources needed;
  if (const int code = resources_of<T>(call, needed)) return code;
  if (needed.blocks == 0) return cudaSuccess;
  auto on_device = device_call_of<T, kChannels>(call);
  on_device.out = out;
  on_device.out_layout = layout;
  on_device.stage_bytes = needed.stage_bytes;
  if (needed.workspace_bytes) on_device.workspace = static_cast<T*>(workspace);
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
  using namespace sslk::augment;
  Resources needed;
  const bool wide = call->image_layout.type == PixelType::kFloat64;
  const int code = wide ? resources_of<double>(*call, needed) : resources_of<float>(*call, needed);
  return code ? -int64_t(code) : needed.workspace_bytes;
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
