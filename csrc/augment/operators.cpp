// Augmentation as torch calls it.
#include <utility>
#include <vector>

#include "../pooled.h"
#include "arguments.h"

namespace sslk::operators {
namespace {

void run_forward(const Views& call, const Tensor& out) {
  if (out.numel() == 0) return;
  const Layout layout = layout_of(out, "out");
  STD_TORCH_CHECK(layout.type != PixelType::kUint8, "out is not floating");
  const bool fits = call.image_layout.type == PixelType::kFloat64
                        ? augment::augment_forward<double>(call, data<char>(out), layout)
                        : augment::augment_forward<float>(call, data<char>(out), layout);
  STD_TORCH_CHECK(fits, "draws does not fit these images and views");
}

Tensor new_images_like(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype,
                       bool channels_last) {
  return new_images(std::move(sizes), channels_last, [&](const std::vector<int64_t>& made) {
    return new_pooled(like, made, dtype, pixel_bytes(pixel_type_of(dtype, "out")));
  });
}

Tensor augment_forward(const Tensor& images, const Tensor& draws, const std::vector<int64_t>& size,
                       int64_t blur_kernel, const std::vector<double>& mean,
                       const std::vector<double>& std, double erase_value, int64_t stages,
                       ScalarType dtype, bool channels_last) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  const Tensor out =
      new_images_like(images, {call.views, call.batch, call.frame.channels, size[0], size[1]},
                      dtype, channels_last);
  run_forward(call, out);
  return out;
}

void augment_forward_out(const Tensor& images, const Tensor& draws,
                         const std::vector<int64_t>& size, int64_t blur_kernel,
                         const std::vector<double>& mean, const std::vector<double>& std,
                         double erase_value, int64_t stages, Tensor out) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  check_out(call, size, out);
  run_forward(call, out);
}

Tensor augment_backward(const Tensor& grad, const Tensor& images, const Tensor& draws,
                        const std::vector<int64_t>& size, int64_t blur_kernel,
                        const std::vector<double>& mean, const std::vector<double>& std,
                        double erase_value, int64_t stages) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  check_grad(call, size, grad);
  const Tensor gradient =
      new_images_like(images, {images.size(0), images.size(1), images.size(2), images.size(3)},
                      images.scalar_type(), call.image_layout.column != 1);
  if (gradient.numel() == 0) return gradient;
  const bool exact = call.image_layout.type == PixelType::kFloat64;
  const bool fits =
      exact ? augment::augment_backward(call, const_data<double>(grad), data<char>(gradient))
            : augment::augment_backward(call, const_data<float>(grad), data<char>(gradient));
  STD_TORCH_CHECK(fits, "draws does not fit these images and views");
  return gradient;
}

Tensor augment_draws(const Tensor& sample_ids, const std::vector<double>& numbers, int64_t seed,
                     int64_t epoch, int64_t height, int64_t width) {
  const Tensor rows = new_rows(sample_ids, numbers, epoch, height, width);
  if (rows.numel() == 0) return rows;
  augment::draw(const_data<int64_t>(sample_ids), rows.size(1), numbers.data(), rows.size(0),
                uint64_t(seed), uint32_t(epoch), height, width, data<float>(rows));
  return rows;
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("augment_draws", TORCH_BOX(&sslk::operators::augment_draws));
  m.impl("augment_backward", TORCH_BOX(&sslk::operators::augment_backward));
  m.impl("augment_forward", TORCH_BOX(&sslk::operators::augment_forward));
  m.impl("augment_forward_out", TORCH_BOX(&sslk::operators::augment_forward_out));
}
