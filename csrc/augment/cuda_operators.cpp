// Augmentation on a GPU as torch calls it.
#include <algorithm>
#include <vector>

#include "../cuda_tensors.h"
#include "arguments.h"
#include "cuda.h"

namespace sslk::operators {
namespace {

// Pixels of an image are counted in 32 bits.
void check_pixels(const char* name, int64_t height, int64_t width) {
  STD_TORCH_CHECK(height <= INT32_MAX / std::max<int64_t>(width, 1), "augment: ", name, " of ",
                  height, " x ", width, " have too many pixels for the CUDA kernels");
}

void check_takes(const Views& call) {
  const augment::Frame& frame = call.frame;
  STD_TORCH_CHECK(sslk_cuda_augment_takes(frame.channels), "augment: images have ", frame.channels,
                  " channels, the CUDA kernels take 1 or 3");
  check_pixels("images", frame.height, frame.width);
  check_pixels("views", frame.view_height, frame.view_width);
}

// bytes: as the functions for it return them.
Tensor new_workspace(const Tensor& like, int64_t bytes, const char* op) {
  check_launch(int(std::max<int64_t>(-bytes, 0)), op);
  return torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
}

void run_forward(const Views& call, const Tensor& images, const Tensor& out) {
  if (out.numel() == 0) return;
  const Layout layout = layout_of(out, "out");
  STD_TORCH_CHECK(layout.type != PixelType::kUint8, "out is not floating");
  const CurrentDevice device(images);
  const Tensor workspace = new_workspace(images, sslk_cuda_augment_workspace(&call), "augment");
  check_launch(sslk_cuda_augment_forward(&call, out.mutable_data_ptr(), &layout,
                                         workspace.mutable_data_ptr(), device.stream()),
               "augment");
}

Tensor augment_forward(const Tensor& images, const Tensor& draws, const std::vector<int64_t>& size,
                       int64_t blur_kernel, const std::vector<double>& mean,
                       const std::vector<double>& std, double erase_value, int64_t stages,
                       ScalarType dtype, bool channels_last) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  check_takes(call);
  const Tensor out = new_images({call.views, call.batch, call.frame.channels, size[0], size[1]},
                                channels_last, [&](const std::vector<int64_t>& sizes) {
                                  return torch::stable::new_empty(images, sizes, dtype);
                                });
  run_forward(call, images, out);
  return out;
}

void augment_forward_out(const Tensor& images, const Tensor& draws,
                         const std::vector<int64_t>& size, int64_t blur_kernel,
                         const std::vector<double>& mean, const std::vector<double>& std,
                         double erase_value, int64_t stages, Tensor out) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  check_takes(call);
  check_out(call, size, out);
  run_forward(call, images, out);
}

Tensor augment_backward(const Tensor& grad, const Tensor& images, const Tensor& draws,
                        const std::vector<int64_t>& size, int64_t blur_kernel,
                        const std::vector<double>& mean, const std::vector<double>& std,
                        double erase_value, int64_t stages) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  check_takes(call);
  check_grad(call, size, grad);
  const Tensor gradient =
      new_images({images.size(0), images.size(1), images.size(2), images.size(3)},
                 call.image_layout.column != 1, [&](const std::vector<int64_t>& sizes) {
                   return torch::stable::new_empty(images, sizes, images.scalar_type());
                 });
  if (gradient.numel() == 0) return gradient;
  const char* const op = "augment's gradient";
  const CurrentDevice device(images);
  const Tensor workspace = new_workspace(images, sslk_cuda_augment_backward_workspace(&call), op);
  check_launch(sslk_cuda_augment_backward(&call, grad.const_data_ptr(), gradient.mutable_data_ptr(),
                                          workspace.mutable_data_ptr(), device.stream()),
               op);
  return gradient;
}

Tensor augment_draws(const Tensor& sample_ids, const std::vector<double>& numbers, int64_t seed,
                     int64_t epoch, int64_t height, int64_t width) {
  const Tensor rows = new_rows(sample_ids, numbers, epoch, height, width);
  const CurrentDevice device(sample_ids);
  check_launch(sslk_cuda_augment_draws(const_data<int64_t>(sample_ids), rows.size(1),
                                       numbers.data(), rows.size(0), uint64_t(seed), epoch, height,
                                       width, data<float>(rows), device.stream()),
               "augment");
  return rows;
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CUDA, m) {
  m.impl("augment_draws", TORCH_BOX(&sslk::operators::augment_draws));
  m.impl("augment_backward", TORCH_BOX(&sslk::operators::augment_backward));
  m.impl("augment_forward", TORCH_BOX(&sslk::operators::augment_forward));
  m.impl("augment_forward_out", TORCH_BOX(&sslk::operators::augment_forward_out));
}
