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

// The rows of a crop, whatever the pixels' type, as a source for Resampler.
template <class T>
class CropRows {
 public:
  // first: the crop's first pixel; end: where the images end.
  CropRows(const Layout& layout, int64_t channels, int64_t width, const char* first,
           const char* end)
      : layout_(layout),
        channels_(channels),
        width_(width),
        first_(first),
        end_(end),
        functions_(functions_of(layout.type)) {}

  void read(int64_t i, T* to, int64_t plane) const { functions_.read(*this, i, to, plane); }
  bool spread(const Bands<T>& bands, int64_t i, int64_t n, const RowsAt<T>& out) const {
    // Beyond a row lies the next one, but beyond the last of all nothing.
    const int64_t last = (i + n - 1) * layout_.row + (channels_ - 1) * layout_.channel + width_;
    const int64_t bytes = pixel_bytes(layout_.type);
    if (layout_.column != 1 || !shuffles(bands)) return false;
    if ((last + kOverread<T>)*bytes > end_ - first_) return false;
    functions_.spread(*this, bands, i, n, out);
    return true;
  }

 private:
  struct Functions {
    void (*read)(const CropRows&, int64_t i, T* to, int64_t plane);
    void (*spread)(const CropRows&, const Bands<T>&, int64_t i, int64_t n, const RowsAt<T>& out);
  };

  static Functions functions_of(PixelType type) {
    return with_pixel_type(type, [](auto zero) -> Functions {
      using S = decltype(zero);
      // Each accumulator reads only what it accumulates.
      if constexpr (std::is_same_v<T, double> != std::is_same_v<S, double>) {
        return {};
      } else {
        return {[](const CropRows& rows, int64_t i, T* to, int64_t plane) {
                  read_row_of(rows.row<S>(i), rows.layout_, rows.channels_, rows.width_, to, plane);
                },
                [](const CropRows& rows, const Bands<T>& bands, int64_t i, int64_t n,
                   const RowsAt<T>& out) {
                  const Layout& layout = rows.layout_;
                  spread_rows<T, S>(bands, rows.channels_, n,
                                    {rows.row<S>(i), layout.channel, layout.row}, out);
                }};
      }
    });
  }

  template <class S>
  const S* row(int64_t i) const {
    return reinterpret_cast<const S*>(first_) + i * layout_.row;
  }

  const Layout& layout_;
  int64_t channels_, width_;
  const char* first_;
  const char* end_;
  Functions functions_;
};

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
