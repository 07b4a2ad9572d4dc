// The crop of an image, resized to a view and flipped.
#pragma once

#include "interleave.h"
#include "pixels.h"
#include "program.h"
#include "resample.h"

namespace sslk::augment {

// n pixels of a row, all channels, as floats.
template <class T, class S>
SSLK_INLINE void read_row_of(const S* from, const Layout& layout, int64_t channels, int64_t n,
                             T* to, int64_t plane) {
  if (channels == 3 && layout.column == 3) {
    int64_t i = 0;
    for (; i + kLanes<T> <= n; i += kLanes<T>) {
      Vec<T> r = load_pixels<T>(from + 3 * i), g = load_pixels<T>(from + 3 * i + kLanes<T>);
      Vec<T> b = load_pixels<T>(from + 3 * i + 2 * kLanes<T>);
      split<T>(r, g, b);
      store(to + i, r);
      store(to + plane + i, g);
      store(to + 2 * plane + i, b);
    }
    from += 3 * i;
    to += i;
    n -= i;
  }
  for (int64_t c = 0; c < channels; ++c) {
    read_pixels(from + c * layout.channel, layout.column, n, to + c * plane);
  }
}

template <class T>
using ReadRow = void (*)(const void* from, const Layout& layout, int64_t channels, int64_t n, T* to,
                         int64_t plane);

template <class T>
ReadRow<T> row_reader(PixelType type) {
  return with_pixel_type(type, [](auto zero) -> ReadRow<T> {
    using S = decltype(zero);
    // Each accumulator reads only what it accumulates.
    if constexpr (std::is_same_v<T, double> != std::is_same_v<S, double>)
      return nullptr;
    else
      return [](const void* from, const Layout& layout, int64_t channels, int64_t n, T* to,
                int64_t plane) {
        read_row_of(static_cast<const S*>(from), layout, channels, n, to, plane);
      };
  });
}

// The resize and the flips of a crop on both axes.
template <class T>
struct CropBands {
  Bands<T> x, y;

  static size_t bytes(const Program& program, const Frame& frame) {
    const Box& crop = program.crop;
    return bands_bytes<T>(frame.view_width, resize_taps(crop.width, frame.view_width)) +
           bands_bytes<T>(frame.view_height, resize_taps(crop.height, frame.view_height));
  }

  // Pixels are multiplied by scale.
  CropBands(Workspace& memory, const Program& program, const Frame& frame, T scale)
      : x(take(memory, program.crop.width, frame.view_width)),
        y(take(memory, program.crop.height, frame.view_height)) {
    fill_resize(x, program.horizontal_flip, T(1));
    fill_resize(y, program.vertical_flip, scale);
  }

 private:
  static Bands<T> take(Workspace& memory, int64_t inputs, int64_t outputs) {
    return take_bands<T>(memory, inputs, outputs, resize_taps(inputs, outputs));
  }
};

}  // namespace sslk::augment
