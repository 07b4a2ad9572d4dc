// From what torch hands over to Views, on any device.
#pragma once

#include <algorithm>
#include <vector>

#include "../tensors.h"
#include "draws.h"
#include "views.h"

namespace sslk::operators {

using augment::Layout;
using augment::PixelType;
using augment::Views;

inline PixelType pixel_type_of(ScalarType type, const char* name) {
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
inline Layout layout_of(const Tensor& x, const char* name) {
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

inline Views views_of(const Tensor& images, const Tensor& draws, const std::vector<int64_t>& size,
                      int64_t blur_kernel, const std::vector<double>& mean,
                      const std::vector<double>& std, double erase_value, int64_t stages) {
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

inline void check_out(const Views& call, const std::vector<int64_t>& size, const Tensor& out) {
  STD_TORCH_CHECK(out.dim() == 5 && out.size(0) == call.views && out.size(1) == call.batch &&
                      out.size(2) == call.frame.channels && out.size(3) == size[0] &&
                      out.size(4) == size[1],
                  "out is not [V, B, C, h, w]");
}

// The gradient of views that images [B, C, H, W] have been made into.
inline void check_grad(const Views& call, const std::vector<int64_t>& size, const Tensor& grad) {
  STD_TORCH_CHECK(call.image_layout.type != PixelType::kUint8, "images is not floating");
  const bool exact = call.image_layout.type == PixelType::kFloat64;
  STD_TORCH_CHECK(
      grad.is_contiguous() &&
          grad.numel() == call.views * call.batch * call.frame.channels * size[0] * size[1] &&
          grad.scalar_type() == (exact ? ScalarType::Double : ScalarType::Float),
      "grad is not contiguous [V, B, C, h, w] of the accumulator's dtype");
}

// [..., C, H, W], or with channels last, which is [..., H, W, C] in memory; made(sizes) is new.
template <class Made>
Tensor new_images(std::vector<int64_t> sizes, bool channels_last, Made&& made) {
  const auto channels = sizes.end() - 3;
  if (channels_last) std::rotate(channels, channels + 1, sizes.end());
  const int64_t d = int64_t(sizes.size());
  const Tensor images = made(sizes);
  if (!channels_last) return images;
  return torch::stable::transpose(torch::stable::transpose(images, d - 2, d - 1), d - 3, d - 2);
}

// Rows [views, B, 32] for sample_ids [B], not filled.
inline Tensor new_rows(const Tensor& sample_ids, const std::vector<double>& numbers, int64_t epoch,
                       int64_t height, int64_t width) {
  STD_TORCH_CHECK(sample_ids.dim() == 1 && sample_ids.is_contiguous() &&
                      sample_ids.scalar_type() == ScalarType::Long,
                  "sample_ids is not contiguous [B] int64");
  STD_TORCH_CHECK(numbers.size() % augment::kNumbers == 0, "numbers are not 64 for each view");
  STD_TORCH_CHECK(epoch >= 0 && epoch < (1 << 24), "epoch is not in [0, 2**24)");
  STD_TORCH_CHECK(height >= 1 && width >= 1, "the images have no pixels");
  const int64_t views = int64_t(numbers.size()) / augment::kNumbers;
  return torch::stable::new_empty(sample_ids, {views, sample_ids.size(0), augment::kRowLength},
                                  ScalarType::Float);
}

}  // namespace sslk::operators
