// One view of one image, stage by stage.
#pragma once

#include <algorithm>
#include <utility>

#include "blur.h"
#include "crop.h"
#include "rotate.h"
#include "scratch.h"
#include "steps.h"
#include "views.h"

namespace sslk::augment {

// Values of a plane that a strip has, roughly.
constexpr int64_t kStripValues = 512;
constexpr int64_t kLeastStripRows = 4;

template <class T>
int64_t padded_width(const Frame& frame) {
  return (frame.view_width + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
int64_t strip_rows(const Frame& frame) {
  const int64_t rows = std::max(kLeastStripRows, kStripValues / padded_width<T>(frame));
  return std::min(rows, frame.view_height);
}

template <class T>
Strip<T> take_image(Workspace& memory, const Frame& frame, int64_t rows) {
  Strip<T> image;
  image.stride = padded_width<T>(frame);
  image.plane = rows * image.stride;
  image.channels = frame.channels;
  image.width = frame.view_width;
  image.rows = rows;
  image.data = memory.take<T>(image.channels * image.plane);
  return image;
}

template <class T>
size_t image_bytes(const Frame& frame, int64_t rows) {
  return Workspace::padded<T>(frame.channels * rows * padded_width<T>(frame));
}

// How many values the mean is one of.
inline double values_in_mean(Entry entry, const Frame& frame) {
  const double pixels = double(frame.view_height) * double(frame.view_width);
  const bool luma = entry == Entry::kLumaMean && frame.channels == 3;
  return luma ? pixels : pixels * double(frame.channels);
}

inline const char* image_pointer(const Views& call, int64_t image) {
  const Layout& layout = call.image_layout;
  return static_cast<const char*>(call.images) + image * layout.image * pixel_bytes(layout.type);
}

// One view of one image.
template <class T>
class View {
 public:
  static size_t bytes(const Views& call, const Program& program) {
    const Frame& frame = call.frame;
    size_t total =
        CropBands<T>::bytes(program, frame) +
        Resampler<T>::bytes(program.crop.width, frame.view_width,
                            resize_taps(program.crop.height, frame.view_height), frame.channels) +
        image_bytes<T>(frame, strip_rows<T>(frame));
    if (program.count > 1) total += 2 * image_bytes<T>(frame, frame.view_height);
    if (program.blur_sigma > 0) {
      total += Workspace::padded<T>(call.blur_kernel) +
               Workspace::padded<T>(mirrored_row_size<T>(frame.view_width, call.blur_kernel)) +
               Workspace::padded<const T*>(call.blur_kernel + 3);
    }
    return total;
  }

  View(Workspace& memory, const Views& call, const Program& program, int64_t image)
      : call_(call),
        program_(program),
        image_(image_pointer(call, image)),
        read_row_(row_reader<T>(call.image_layout.type)),
        bands_(memory, program, call.frame,
               call.image_layout.type == PixelType::kUint8 ? T(1) / T(255) : T(1)),
        resampler_(memory, bands_.x, bands_.y, call.frame.channels),
        strip_(take_image<T>(memory, call.frame, strip_rows<T>(call.frame))) {
    const Frame& frame = call.frame;
    if (program.count > 1) {
      before_ = take_image<T>(memory, frame, frame.view_height);
      after_ = take_image<T>(memory, frame, frame.view_height);
    }
    if (program.blur_sigma > 0) {
      gaussian_.fill(memory.take<T>(call.blur_kernel), call.blur_kernel, program.blur_sigma);
      mirrored_row_ = memory.take<T>(mirrored_row_size<T>(frame.view_width, call.blur_kernel));
      blurred_rows_ = memory.take<const T*>(call.blur_kernel + 3);
    }
  }

  // Hands over what comes out of the last step, strip by strip.
  template <class Finish>
  void run(Finish&& finish) {
    for (int i = 0; i + 1 < program_.count; ++i) run_segment(i, [](const Strip<T>&) {});
    const int last = program_.count - 1;
    for_each_strip([&](int64_t y) {
      const Strip<T> strip = enter(program_.segments[last].entry, y);
      apply_steps(last, strip);
      finish(strip);
    });
  }

  // Any segment but the last, with entered(strip) before the steps.
  template <class Entered>
  void run_segment(int i, Entered&& entered) {
    const Entry next = program_.segments[i + 1].entry;
    double total = 0;
    for_each_strip([&](int64_t y) {
      const Strip<T> strip = enter(program_.segments[i].entry, y);
      entered(strip);
      apply_steps(i, strip);
      total += leave(next, strip);
    });
    std::swap(before_, after_);
    means_[i + 1] = T(total / values_in_mean(next, call_.frame));
  }

  // What the steps of a segment see, and nothing more.
  template <class Entered>
  void enter_segment(int i, Entered&& entered) {
    for_each_strip([&](int64_t y) { entered(enter(program_.segments[i].entry, y)); });
  }

  template <class F>
  void for_each_strip(F&& f) const {
    for (int64_t y = 0; y < call_.frame.view_height; y += strip_.rows) f(y);
  }

  const Strip<T>& strip() const { return strip_; }
  T mean(int segment) const { return means_[segment]; }
  const CropBands<T>& bands() const { return bands_; }
  const Gaussian<T>& gaussian() const { return gaussian_; }

 private:
  // The rows from y on, as they are before the steps of a segment.
  Strip<T> enter(Entry entry, int64_t y) {
    Strip<T> strip = strip_;
    strip.top = y;
    strip.rows = std::min(strip_.rows, call_.frame.view_height - y);
    switch (entry) {
      case Entry::kResize:
        for (int64_t i = 0; i < strip.rows; ++i) {
          resampler_.row(y + i, strip.row(0, i), strip.plane,
                         [&](int64_t row, T* to, int64_t plane) { read_crop_row(row, to, plane); });
        }
        break;
      case Entry::kLumaMean:
      case Entry::kOverallMean:
        copy(before_.part(y, strip.rows), strip);
        break;
      case Entry::kBlur:
        blur_down(gaussian_, before_, blurred_rows_, strip);
        break;
      case Entry::kRotate:
        rotate(Rotation<T>(program_.rotation, before_.rows, before_.width), before_, strip);
        break;
    }
    return strip;
  }

  void apply_steps(int i, const Strip<T>& strip) const {
    const Segment& segment = program_.segments[i];
    for (int s = 0; s < segment.count; ++s) {
      apply_step(segment.steps[s], means_[i], program_.noise_seed, strip);
    }
  }

  // Keeps what the next entry needs of a strip. Returns its share of the sum that it needs.
  double leave(Entry next, const Strip<T>& strip) {
    const Strip<T> to = after_.part(strip.top, strip.rows);
    if (next == Entry::kBlur) {
      blur_across(gaussian_, strip, mirrored_row_, to);
    } else {
      copy(strip, to);
    }
    if (next == Entry::kLumaMean) return luma_sum(strip);
    if (next == Entry::kOverallMean) return overall_sum(strip);
    return 0;
  }

  void read_crop_row(int64_t row, T* to, int64_t plane) {
    const Box& crop = program_.crop;
    const Layout& layout = call_.image_layout;
    const int64_t first = (crop.top + row) * layout.row + crop.left * layout.column;
    read_row_(image_ + first * pixel_bytes(layout.type), layout, call_.frame.channels, crop.width,
              to, plane);
  }

  const Views& call_;
  const Program& program_;
  const char* image_;
  const ReadRow<T> read_row_;
  const CropBands<T> bands_;
  Resampler<T> resampler_;
  const Strip<T> strip_;
  Strip<T> before_, after_;  // whole images, between segments
  Gaussian<T> gaussian_;
  T* mirrored_row_ = nullptr;
  const T** blurred_rows_ = nullptr;
  T means_[5] = {};  // [segment]: what its entry found
};

}  // namespace sslk::augment
