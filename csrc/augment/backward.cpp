#include <algorithm>
#include <atomic>
#include <vector>

#include "../parallel.h"
#include "reverse.h"
#include "store.h"
#include "view.h"

namespace sslk::augment {
namespace {

// The way back through one view of one image: its stages are run again, what they need is kept, and
// the gradient goes from the last to the first.
template <class T>
class ViewGradient {
 public:
  static size_t bytes(const Views& call, const Program& program) {
    const Frame& frame = call.frame;
    const Box& crop = program.crop;
    const int64_t taps_y = transposed_resize_taps(crop.height, frame.view_height);
    size_t total =
        View<T>::bytes(call, program) +
        bands_bytes<T>(crop.width, transposed_resize_taps(crop.width, frame.view_width)) +
        bands_bytes<T>(crop.height, taps_y) +
        Resampler<T>::bytes(frame.view_width, crop.width, taps_y, frame.channels) +
        Workspace::padded<T>(kRowsTogether * frame.channels * padded_crop(crop)) +
        2 * image_bytes<T>(frame, frame.view_height);
    for (int i = 0; i < program.count; ++i) {
      if (needs_input(program.segments[i])) total += image_bytes<T>(frame, frame.view_height);
    }
    total += size_t(most_steps(program)) * image_bytes<T>(frame, strip_rows<T>(frame, program));
    if (program.blur_sigma > 0) total += BlurBack<T>::bytes(frame.view_width, call.blur_kernel);
    return total;
  }

  ViewGradient(Workspace& memory, const Views& call, const Program& program, int64_t image)
      : memory_(memory), call_(call), program_(program), view_(memory, call, program, image) {
    const Frame& frame = call.frame;
    gradient_ = take_image<T>(memory, frame, frame.view_height);
    other_ = take_image<T>(memory, frame, frame.view_height);
    for (int i = 0; i < program.count; ++i) {
      if (needs_input(program.segments[i])) {
        kept_[i] = take_image<T>(memory, frame, frame.view_height);
        last_kept_ = i;
      }
    }
    for (int i = 0; i < most_steps(program); ++i) {
      inputs_[i] = take_image<T>(memory, frame, strip_rows<T>(frame, program));
    }
  }

  // Adds to total, an image of the input's size, what comes back from the view's gradient.
  void run(const T* view_gradient, const Strip<T>& total) {
    run_stages();
    double share = 0;  // of each pixel in the gradient of the mean that the next segment uses
    for (int i = program_.count - 1; i >= 0; --i) {
      const Entry next = i + 1 < program_.count ? program_.segments[i + 1].entry : Entry::kResize;
      double to_mean = 0;
      view_.for_each_strip([&](int64_t y) {
        const int64_t rows = std::min(view_.strip().rows, call_.frame.view_height - y);
        if (i + 1 == program_.count) read_gradient(view_gradient, y, rows);
        const Strip<T> gradient = gradient_.part(y, rows);
        if (share != 0) add_share(next, T(share), gradient);
        to_mean += reverse_steps(i, y, gradient);
      });
      const Entry entry = program_.segments[i].entry;
      share = to_mean / values_in_mean(entry, call_.frame);
      reverse_entry(entry);
    }
    reverse_resize(total);
  }

 private:
  // The rows of the gradient as a source for Resampler.
  struct GradientRows {
    const Strip<T>& image;

    void read(int64_t i, T* to, int64_t plane) const {
      for (int64_t c = 0; c < image.channels; ++c) {
        std::copy_n(image.row(c, i), image.stride, to + c * plane);
      }
    }
    bool spread(const Bands<T>& bands, int64_t i, int64_t n, const RowsAt<T>& out) const {
      spread_rows<T, T>(bands, image.channels, n, {image.row(0, i), image.plane, image.stride},
                        out);
      return true;
    }
  };

  static constexpr int64_t kRowsTogether = 4;  // of the input's gradient

  static int64_t padded_crop(const Box& crop) {
    return (crop.width + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  }
  static int most_steps(const Program& program) {
    int most = 0;
    for (int i = 0; i < program.count; ++i) most = std::max(most, program.segments[i].count);
    return most;
  }

  // The forward, as far as anything of it is needed.
  void run_stages() {
    for (int i = 0; i < last_kept_; ++i) view_.run_segment(i, kept_[i].data ? &kept_[i] : nullptr);
    if (last_kept_ >= 0) view_.enter_segment(last_kept_, kept_[last_kept_]);
  }

  // Rows of the gradient of what comes out of the last step, before translation, normalisation and
  // erasing.
  void read_gradient(const T* view_gradient, int64_t top, int64_t rows) {
    const Frame& frame = call_.frame;
    const int64_t height = frame.view_height, width = frame.view_width;
    const Box& box = program_.erased;
    for (int64_t c = 0; c < frame.channels; ++c) {
      const T scale = call_.std ? T(1 / call_.std[c]) : T(1);
      for (int64_t y = top; y < top + rows; ++y) {
        T* const out = gradient_.row(c, y);
        const int64_t from = y + program_.down;
        const bool inside = from >= 0 && from < height;
        const int64_t begin = inside ? std::max<int64_t>(0, -program_.right) : 0;
        const int64_t end = inside ? std::min(width, width - program_.right) : 0;
        std::fill_n(out, begin, T(0));
        std::fill_n(out + end, gradient_.stride - end, T(0));
        if (!inside) continue;
        const T* const in = view_gradient + (c * height + from) * width + program_.right;
        // While these rows go their way, those of the next strip come.
        for (int64_t x = 0; x < width; x += 64 / int64_t(sizeof(T))) {
          __builtin_prefetch(in + rows * width + x, 0, 2);
        }
        for (int64_t x = begin; x < end; ++x) out[x] = in[x] * scale;
        if (from < box.top || from >= box.top + box.height) continue;
        const int64_t first = std::max(begin, box.left - program_.right);
        const int64_t last = std::min(end, box.left + box.width - program_.right);
        for (int64_t x = first; x < last; ++x) out[x] = 0;
      }
    }
  }

  void add_share(Entry entry, T share, const Strip<T>& gradient) const {
    const bool luma = entry == Entry::kLumaMean && gradient.channels == 3;
    const double weights[] = {kLumaRed, kLumaGreen, kLumaBlue};
    for (int64_t c = 0; c < gradient.channels; ++c) {
      const T add = luma ? share * T(weights[c]) : share;
      T* const g = gradient.row(c, 0);
      for (int64_t i = 0; i < gradient.count(); i += kLanes<T>) store(g + i, load(g + i) + add);
    }
  }

  // The steps of a segment on a strip. Returns what flows to the mean.
  double reverse_steps(int i, int64_t y, const Strip<T>& gradient) {
    const Segment& segment = program_.segments[i];
    Strip<T> inputs[10];
    if (kept_[i].data) {
      inputs[0] = kept_[i].part(y, gradient.rows);
      for (int s = 1; s < segment.count; ++s) {
        inputs[s] = inputs_[s].part(0, gradient.rows);
        inputs[s].top = y;
        apply_step(segment.steps[s - 1], view_.mean(i), program_.noise_seed, inputs[s - 1],
                   inputs[s]);
      }
    }
    double to_mean = 0;
    for (int s = segment.count - 1; s >= 0; --s) {
      to_mean +=
          reverse_step(segment.steps[s], view_.mean(i), program_.noise_seed, inputs[s], gradient);
    }
    return to_mean;
  }

  void reverse_entry(Entry entry) {
    if (entry == Entry::kBlur) {
      const BlurBack<T> memory(memory_, call_.frame.view_width, call_.blur_kernel);
      blur_back(view_.gaussian(), memory, gradient_, other_);
      std::swap(gradient_, other_);
    } else if (entry == Entry::kRotate) {
      for (int64_t c = 0; c < other_.channels; ++c) {
        std::fill_n(other_.row(c, 0), other_.count(), T(0));
      }
      const Rotation<T> rotation(program_.rotation, other_.rows, other_.width);
      rotate_back(rotation, gradient_, other_);
      std::swap(gradient_, other_);
    }
  }

  void reverse_resize(const Strip<T>& total) {
    const Box& crop = program_.crop;
    const Frame& frame = call_.frame;
    const CropBands<T>& bands = view_.bands();
    Bands<T> x = take_bands<T>(memory_, frame.view_width, crop.width,
                               transposed_resize_taps(crop.width, frame.view_width));
    Bands<T> y = take_bands<T>(memory_, frame.view_height, crop.height,
                               transposed_resize_taps(crop.height, frame.view_height));
    fill_transpose(x, bands.x);
    fill_transpose(y, bands.y);
    Resampler<T> resampler(memory_, x, y, frame.channels);
    const int64_t plane = padded_crop(crop);
    T* const rows = memory_.take<T>(kRowsTogether * frame.channels * plane);
    for (int64_t i = 0; i < crop.height; i += kRowsTogether) {
      const int64_t n = std::min(kRowsTogether, crop.height - i);
      const RowsAt<T> made = {rows, kRowsTogether * plane, plane};
      resampler.rows(i, n, made, GradientRows{gradient_});
      for (int64_t c = 0; c < frame.channels; ++c) {
        for (int64_t k = 0; k < n; ++k) {
          T* __restrict const out = total.row(c, crop.top + i + k) + crop.left;
          const T* __restrict const in = rows + c * made.plane + k * made.row;
          for (int64_t at = 0; at < crop.width; ++at) out[at] += in[at];
        }
      }
    }
  }

  Workspace& memory_;
  const Views& call_;
  const Program& program_;
  View<T> view_;
  Strip<T> gradient_, other_;
  Strip<T> kept_[5];  // [segment]: what its first step saw
  int last_kept_ = -1;
  Strip<T> inputs_[10];  // [step]: what it saw of a strip
};

// The images' own size in the place of the views'.
Frame whole_image(Frame frame) {
  frame.view_height = frame.height;
  frame.view_width = frame.width;
  return frame;
}

}  // namespace

template <class T>
bool augment_backward(const Views& call, const T* view_gradient, void* gradient) {
  const Frame& frame = call.frame;
  const Layout& layout = call.image_layout;
  const int64_t view_size = frame.channels * frame.view_height * frame.view_width;
  const Frame whole = whole_image(frame);
  const std::vector<T> ones(frame.channels, T(1)), zeros(frame.channels, T(0));

  const bool large = call.batch * layout.image * pixel_bytes(layout.type) > kCachedBytes;

  std::atomic<int64_t> next{0};
  std::atomic<bool> fits{true};
  const int64_t values = call.batch * (call.views * view_size + layout.image);
  const int64_t workers = std::min(call.batch, worker_count(values, kValuesOfThread));
  parallel_run(workers, [&](int64_t) {
    Scratch total_scratch, scratch;
    Program program;
    for (int64_t image; (image = next.fetch_add(1, std::memory_order_relaxed)) < call.batch;) {
      Workspace& kept = total_scratch.prepare(image_bytes<T>(whole, frame.height));
      const Strip<T> total = take_image<T>(kept, whole, frame.height);
      std::fill_n(total.data, total.channels * total.plane, T(0));
      for (int64_t view = 0; view < call.views; ++view) {
        const int64_t place = view * call.batch + image;
        if (!read_row(call.draws + place * kRowLength, frame, program)) {
          fits = false;
          return;
        }
        Workspace& memory = scratch.prepare(ViewGradient<T>::bytes(call, program));
        ViewGradient<T>(memory, call, program, image).run(view_gradient + place * view_size, total);
      }
      Target target = {
          static_cast<char*>(gradient) + image * layout.image * pixel_bytes(layout.type),
          layout,
          frame.height,
          frame.width,
          frame.channels,
          false};
      target.stream = large && streams(target);
      with_pixel_type(layout.type, [&](auto zero) {
        using O = decltype(zero);
        if constexpr (!std::is_same_v<O, uint8_t>) {
          store_strip<O>(total, 0, Normalisation<T>{ones.data(), zeros.data()}, target);
        }
      });
    }
    finish_streams();
  });
  return fits;
}

template bool augment_backward<float>(const Views&, const float*, void*);
template bool augment_backward<double>(const Views&, const double*, void*);

}  // namespace sslk::augment
