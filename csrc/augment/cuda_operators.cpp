// Augmentation on a GPU as torch calls it: without a backward, for which there is no kernel.
#include <vector>

#include "../cuda_tensors.h"
#include "arguments.h"
#include "cuda.h"

namespace sslk::operators {
namespace {

void run_forward(const Views& call, const Tensor& images, const Tensor& out) {
  if (out.numel() == 0) return;
  const Layout layout = layout_of(out, "out");
  STD_TORCH_CHECK(layout.type != PixelType::kUint8, "out is not floating");
  STD_TORCH_CHECK(sslk_cuda_augment_takes(call.frame.channels), "augment: images have ",
                  call.frame.channels, " channels, the CUDA kernel takes 1 or 3");
  const CurrentDevice device(images);
  const int64_t bytes = sslk_cuda_augment_workspace(&call);
  STD_TORCH_CHECK(bytes >= 0, "augment: there is no GPU");
  const Tensor workspace = torch::stable::new_empty(images, {bytes}, ScalarType::Byte);
  check_launch(sslk_cuda_augment_forward(&call, out.mutable_data_ptr(), &layout,
                                         workspace.mutable_data_ptr(), device.stream()),
               "augment");
}

Tensor augment_forward(const Tensor& images, const Tensor& draws, const std::vector<int64_t>& size,
                       int64_t blur_kernel, const std::vector<double>& mean,
                       const std::vector<double>& std, double erase_value, int64_t stages,
                       ScalarType dtype, bool channels_last) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
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
  check_out(call, size, out);
  run_forward(call, images, out);
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
  m.impl("augment_forward", TORCH_BOX(&sslk::operators::augment_forward));
  m.impl("augment_forward_out", TORCH_BOX(&sslk::operators::augment_forward_out));
}
