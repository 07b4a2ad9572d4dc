// One view of one image, stage by stage.
//
// A program is a list of segments. Each begins with something that looks beyond the pixel (resize,
// rotation, a mean over the image, blur) and goes on with pointwise steps. A segment passes over
// the image once, some rows at a time, a strip, which stays in the first-level cache from the
// segment's beginning to its last step. Between segments the image lies in scratch memory, which
// for common sizes is the second-level cache; a view whose program is one segment never lies
// anywhere.
#pragma once

#include <algorithm>
#include <bit>
#include <utility>

#include "blur.h"
#include "crop.h"
#include "read_row.h"
#include "rotate.h"
#include "scratch.h"
#include "steps.h"
#include "views.h"

namespace sslk::augment {

// Values of a plane that a strip has, roughly.
constexpr int64_t kStripValues = 256;

template <class T>
int64_t padded_width(const Frame& frame) {
  return (frame.view_width + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
int64_t strip_rows(const Frame& frame, const Program& program) {
  const int64_t wide = std::bit_width(uint64_t(padded_width<T>(frame) - 1));  // no division
  const int64_t least = program.blur_sigma > 0 ? kBlurRows : 1;
  return std::min(std::max(least, kStripValues >> wide), frame.view_height);
}

// Planes a multiple of 4 KiB apart would slow each other down, loads waiting for stores.
template <class T>
int64_t plane_size(const Frame& frame, int64_t rows) {
  return rows * padded_width<T>(frame) + kLanes<T>;
}

template <class T>
Strip<T> take_image(Workspace& memory, const Frame& frame, int64_t rows) {
  Strip<T> image;
  image.stride = padded_width<T>(frame);
  image.plane = plane_size<T>(frame, rows);
  image.channels = frame.channels;
  image.width = frame.view_width;
  image.rows = rows;
  image.data = memory.take<T>(image.channels * image.plane + kOverread<T>);
  return image;
}

template <class T>
size_t image_bytes(const Frame& frame, int64_t rows) {
  return Workspace::padded<T>(frame.channels * plane_size<T>(frame, rows) + kOverread<T>);
}

template <class T>
CropRows<T> rows_of_crop(const Views& call, const Program& program, int64_t image) {
  const Layout& layout = call.image_layout;
  const Box& crop = program.crop;
  const int64_t first = image * layout.image + crop.top * layout.row + crop.left * layout.column;
  const int64_t bytes = pixel_bytes(layout.type);
  const char* const images = static_cast<const char*>(call.images);
  return {layout, call.frame.channels, crop.width, images + first * bytes,
          images + call.batch * layout.image * bytes};
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
        image_bytes<T>(frame, strip_rows<T>(frame, program));
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
        crop_(rows_of_crop<T>(call, program, image)),
        bands_(memory, program, call.frame,
               call.image_layout.type == PixelType::kUint8 ? T(1) / T(255) : T(1)),
        resampler_(memory, bands_.x, bands_.y, call.frame.channels),
        strip_(take_image<T>(memory, call.frame, strip_rows<T>(call.frame, program))) {
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

  // Runs all but the last step of all, and hands over what comes out, strip by strip: finish(strip,
  // step, mean), step being null where there is none. A blur that nothing follows goes straight to
  // the view if finish.takes_rows(): to finish.place(channel, row), and then finish.placed(strip).
  template <class Finish>
  void run(Finish&& finish) {
    for (int i = 0; i + 1 < program_.count; ++i) run_segment(i);
    const int last = program_.count - 1;
    const Segment& segment = program_.segments[last];
    const int before = std::max(segment.count - 1, 0);
    const Step* const step = segment.count ? &segment.steps[before] : nullptr;
    const bool placed = segment.entry == Entry::kBlur && !step && blur_places(gaussian_) &&
                        call_.frame.view_height % kBlurRows == 0 && finish.takes_rows();
    for_each_strip([&](int64_t y) {
      const Strip<T> strip = rows_of(strip_, y);
      if (placed) {
        blur_down(gaussian_, before_, blurred_rows_, y, strip.rows,
                  [&](int64_t c) { return finish.place(c, y); });
        return finish.placed(strip);
      }
      const Strip<T> in = uses_mean(segment.entry) ? rows_of(before_, y) : strip;
      enter(segment.entry, in);
      apply_steps(segment, before, means_[last], program_.noise_seed, in, strip);
      finish(before ? strip : in, step, means_[last]);
    });
  }

  // Any segment but the last. Where kept, an image with steps to see it, is given, it gets what the
  // first of them sees.
  void run_segment(int i, Strip<T>* kept = nullptr) {
    const Segment& segment = program_.segments[i];
    const Entry entry = segment.entry, next = program_.segments[i + 1].entry;
    // Unless what comes next changes the strip on its way into an image, it lies there already.
    const bool direct = next != Entry::kBlur;
    const bool in_place = uses_mean(entry) && direct && !kept;
    if (kept) keep_entered(entry, *kept);
    double total = 0;
    for_each_strip([&](int64_t y) {
      const Strip<T> out = rows_of(in_place ? before_ : direct ? after_ : strip_, y);
      const Strip<T> in = kept ? rows_of(*kept, y) : uses_mean(entry) ? rows_of(before_, y) : out;
      enter(entry, in);
      apply_steps(segment, segment.count, means_[i], program_.noise_seed, in, out);
      if (next == Entry::kBlur) blur_across(gaussian_, out, mirrored_row_, rows_of(after_, y));
      if (next == Entry::kLumaMean) total += luma_sum(out);
      if (next == Entry::kOverallMean) total += overall_sum(out);
    });
    if (!in_place) std::swap(before_, after_);
    means_[i + 1] = T(total / values_in_mean(next, call_.frame));
  }

  // Only what the first step of a segment sees.
  void enter_segment(int i, Strip<T>& kept) {
    const Entry entry = program_.segments[i].entry;
    keep_entered(entry, kept);
    for_each_strip([&](int64_t y) { enter(entry, rows_of(kept, y)); });
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
  // A strip's rows from y on: those of a whole image, or the strip itself in their place.
  Strip<T> rows_of(const Strip<T>& from, int64_t y) const {
    const bool whole = from.rows == call_.frame.view_height;
    Strip<T> strip = whole ? from.part(y, 0) : from;
    strip.top = y;
    strip.rows = std::min(strip_.rows, call_.frame.view_height - y);
    return strip;
  }

  // An image that is there already changes hands.
  void keep_entered(Entry entry, Strip<T>& kept) {
    if (uses_mean(entry)) std::swap(kept, before_);
  }

  // Fills a strip with what the steps of a segment begin with.
  void enter(Entry entry, const Strip<T>& strip) {
    const int64_t y = strip.top;
    switch (entry) {
      case Entry::kResize:
        resampler_.rows(y, strip.rows, {strip.data, strip.plane, strip.stride}, crop_);
        break;
      case Entry::kLumaMean:
      case Entry::kOverallMean:
        break;  // it is the strip
      case Entry::kBlur:
        blur_down(gaussian_, before_, blurred_rows_, y, strip.rows,
                  [&](int64_t c) { return BlurredRows<T>{strip.row(c, 0), strip.stride}; });
        break;
      case Entry::kRotate:
        rotate(Rotation<T>(program_.rotation, before_.rows, before_.width), before_, strip);
        break;
    }
  }

  const Views& call_;
  const Program& program_;
  const CropRows<T> crop_;
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
