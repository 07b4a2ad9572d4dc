// Augmentation as torch calls it.
#include <algorithm>
#include <vector>

#include "../pooled.h"
#include "../tensors.h"
#include "draws.h"
#include "views.h"

namespace sslk::operators {
namespace {

using augment::Layout;
using augment::PixelType;
using augment::Views;

PixelType pixel_type_of(ScalarType type, const char* name) {
  switch (type) {
    case ScalarType::Byte:
      return PixelType::kUint8;
    case ScalarType::Float:
      return PixelType::kFloat32;
    case ScalarType::Double:
      return PixelType::kFloat64;
    case ScalarType::BFloat16:
      return PixelType::kBFloat16;
    case ScalarType::Half:
      return PixelType::kFloat16;
    default:
      STD_TORCH_CHECK(false, name, " has a dtype that augmentation does not take");
  }
}

// Layout of x [..., C, H, W] when its images are contiguous or channels_last and follow each other.
Layout layout_of(const Tensor& x, const char* name) {
  const int64_t d = x.dim(), c = x.size(d - 3), h = x.size(d - 2), w = x.size(d - 1);
  const PixelType type = pixel_type_of(x.scalar_type(), name);
  const auto is = [&](bool last) {
    const Layout layout = Layout::of(type, c, h, w, last);
    int64_t image = layout.image;
    for (int64_t i = d - 4; i >= 0; --i) {
      if (x.size(i) > 1 && x.stride(i) != image) return false;
      image *= x.size(i);
    }
    return (c == 1 || x.stride(d - 3) == layout.channel) &&
           (h == 1 || x.stride(d - 2) == layout.row) &&
           (w == 1 || x.stride(d - 1) == layout.column);
  };
  if (x.numel() == 0 || is(false)) return Layout::of(type, c, h, w, false);
  STD_TORCH_CHECK(is(true), name, " is neither contiguous nor channels_last");
  return Layout::of(type, c, h, w, true);
}

Views views_of(const Tensor& images, const Tensor& draws, const std::vector<int64_t>& size,
               int64_t blur_kernel, const std::vector<double>& mean, const std::vector<double>& std,
               double erase_value, int64_t stages) {
  STD_TORCH_CHECK(images.dim() == 4, "images is not [B, C, H, W]");
  const int64_t batch = images.size(0), channels = images.size(1);
  STD_TORCH_CHECK(draws.dim() == 3 && draws.size(1) == batch &&
                      draws.size(2) == augment::kRowLength && draws.is_contiguous() &&
                      draws.scalar_type() == ScalarType::Float,
                  "draws is not contiguous [V, ", batch, ", 32] float32");
  STD_TORCH_CHECK(size.size() == 2 && size[0] >= 1 && size[1] >= 1, "size is not (h, w)");
  STD_TORCH_CHECK(channels >= 1, "images has no channels");
  STD_TORCH_CHECK(
      channels == 1 || channels == 3 || !(stages & (augment::kMayColour | augment::kMayGrayscale)),
      "images has neither 1 nor 3 channels, which colour needs");
  STD_TORCH_CHECK(!(stages & augment::kMayBlur) ||
                      (blur_kernel % 2 == 1 && blur_kernel / 2 < std::min(size[0], size[1])),
                  "blur_kernel is even or too large for the views");
  STD_TORCH_CHECK(mean.size() == std.size() && (mean.empty() || int64_t(mean.size()) == channels),
                  "mean and std are not one for each channel");
  return {{channels, images.size(2), images.size(3), size[0], size[1], stages},
          batch,
          draws.size(0),
          images.const_data_ptr(),
          layout_of(images, "images"),
          const_data<float>(draws),
          blur_kernel,
          mean.empty() ? nullptr : mean.data(),
          mean.empty() ? nullptr : std.data(),
          erase_value};
}

void run_forward(const Views& call, const Tensor& out) {
  if (out.numel() == 0) return;
  const Layout layout = layout_of(out, "out");
  STD_TORCH_CHECK(layout.type != PixelType::kUint8, "out is not floating");
  const bool fits = call.image_layout.type == PixelType::kFloat64
                        ? augment::augment_forward<double>(call, data<char>(out), layout)
                        : augment::augment_forward<float>(call, data<char>(out), layout);
  STD_TORCH_CHECK(fits, "draws does not fit these images and views");
}

// [..., C, H, W], or with channels last, which is [..., H, W, C] in memory.
Tensor new_images(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype,
                  bool channels_last) {
  const auto channels = sizes.end() - 3;
  if (channels_last) std::rotate(channels, channels + 1, sizes.end());
  const int64_t d = int64_t(sizes.size());
  const Tensor made = new_pooled(like, sizes, dtype, pixel_bytes(pixel_type_of(dtype, "out")));
  if (!channels_last) return made;
  return torch::stable::transpose(torch::stable::transpose(made, d - 2, d - 1), d - 3, d - 2);
}

Tensor augment_forward(const Tensor& images, const Tensor& draws, const std::vector<int64_t>& size,
                       int64_t blur_kernel, const std::vector<double>& mean,
                       const std::vector<double>& std, double erase_value, int64_t stages,
                       ScalarType dtype, bool channels_last) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  const Tensor out =
      new_images(images, {call.views, call.batch, call.frame.channels, size[0], size[1]}, dtype,
                 channels_last);
  run_forward(call, out);
  return out;
}

void augment_forward_out(const Tensor& images, const Tensor& draws,
                         const std::vector<int64_t>& size, int64_t blur_kernel,
                         const std::vector<double>& mean, const std::vector<double>& std,
                         double erase_value, int64_t stages, Tensor out) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  STD_TORCH_CHECK(out.dim() == 5 && out.size(0) == call.views && out.size(1) == call.batch &&
                      out.size(2) == call.frame.channels && out.size(3) == size[0] &&
                      out.size(4) == size[1],
                  "out is not [V, B, C, h, w]");
  run_forward(call, out);
}

Tensor augment_backward(const Tensor& grad, const Tensor& images, const Tensor& draws,
                        const std::vector<int64_t>& size, int64_t blur_kernel,
                        const std::vector<double>& mean, const std::vector<double>& std,
                        double erase_value, int64_t stages) {
  const Views call = views_of(images, draws, size, blur_kernel, mean, std, erase_value, stages);
  STD_TORCH_CHECK(call.image_layout.type != PixelType::kUint8, "images is not floating");
  const bool exact = call.image_layout.type == PixelType::kFloat64;
  STD_TORCH_CHECK(
      grad.is_contiguous() &&
          grad.numel() == call.views * call.batch * call.frame.channels * size[0] * size[1] &&
          grad.scalar_type() == (exact ? ScalarType::Double : ScalarType::Float),
      "grad is not contiguous [V, B, C, h, w] of the accumulator's dtype");
  const Tensor gradient =
      new_images(images, {images.size(0), images.size(1), images.size(2), images.size(3)},
                 images.scalar_type(), call.image_layout.column != 1);
  if (gradient.numel() == 0) return gradient;
  const bool fits =
      exact ? augment::augment_backward(call, const_data<double>(grad), data<char>(gradient))
            : augment::augment_backward(call, const_data<float>(grad), data<char>(gradient));
  STD_TORCH_CHECK(fits, "draws does not fit these images and views");
  return gradient;
}

Tensor augment_draws(const Tensor& sample_ids, const std::vector<double>& numbers, int64_t seed,
                     int64_t epoch, int64_t height, int64_t width) {
  STD_TORCH_CHECK(sample_ids.dim() == 1 && sample_ids.is_contiguous() &&
                      sample_ids.scalar_type() == ScalarType::Long,
                  "sample_ids is not contiguous [B] int64");
  STD_TORCH_CHECK(numbers.size() % augment::kNumbers == 0, "numbers are not 64 for each view");
  STD_TORCH_CHECK(epoch >= 0 && epoch < (1 << 24), "epoch is not in [0, 2**24)");
  STD_TORCH_CHECK(height >= 1 && width >= 1, "the images have no pixels");
  const int64_t views = int64_t(numbers.size()) / augment::kNumbers, batch = sample_ids.size(0);
  Tensor rows =
      torch::stable::new_empty(sample_ids, {views, batch, augment::kRowLength}, ScalarType::Float);
  if (rows.numel() == 0) return rows;
  augment::draw(const_data<int64_t>(sample_ids), batch, numbers.data(), views, uint64_t(seed),
                uint32_t(epoch), height, width, data<float>(rows));
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
