#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "../parallel.h"
#include "store.h"
#include "view.h"

namespace sslk::augment {
namespace {

// Moves rows of a strip to the right, with zeros in their place.
template <class T>
void shift_right(const Strip<T>& strip, int64_t right) {
  const int64_t width = strip.width, kept = width - std::abs(right);
  for (int64_t c = 0; c < strip.channels; ++c) {
    for (int64_t y = 0; y < strip.rows; ++y) {
      T* const row = strip.row(c, y);
      std::memmove(row + std::max<int64_t>(right, 0), row + std::max<int64_t>(-right, 0),
                   size_t(kept) * sizeof(T));
      std::fill_n(right > 0 ? row : row + kept, width - kept, T(0));
    }
  }
}

// Where strips go at last: translated, normalised, erased.
template <class T>
class Sink {
 public:
  Sink(const Views& call, const Program& program, const Target& target,
       const Normalisation<T>& normalisation)
      : call_(call), program_(program), target_(target), normalisation_(normalisation) {}

  void operator()(const Strip<T>& strip, const Step* step, T mean) const {
    if (step && stores_by(*step, mean, strip)) return;
    if (step) apply_step(*step, mean, program_.noise_seed, strip, strip);
    if (program_.right) shift_right(strip, program_.right);
    // Rows of the strip that are still in the view when it is moved down.
    const int64_t top = strip.top + program_.down;
    const int64_t begin = std::max<int64_t>(0, -top);
    const int64_t end = std::min(strip.rows, call_.frame.view_height - top);
    if (begin < end) write(strip.part(begin, end - begin), top + begin);
  }

  // Whether rows of the strips' own type can be written where they belong by somebody else.
  bool takes_rows() const {
    const PixelType own = sizeof(T) == 8 ? PixelType::kFloat64 : PixelType::kFloat32;
    const bool moved = program_.right || program_.down;
    return target_.layout.type == own && target_.layout.column == 1 && !moved &&
           target_.width % kLanes<T> == 0;
  }
  BlurredRows<T> place(int64_t channel, int64_t row) const {
    const Layout& layout = target_.layout;
    return {static_cast<T*>(target_.data) + channel * layout.channel + row * layout.row, layout.row,
            normalisation_.scale[channel], normalisation_.shift[channel], target_.stream};
  }
  void placed(const Strip<T>& strip) const {
    if (program_.erased.height) erase<T>(strip, strip.top);
  }

  // Fills the rows that nothing was moved to; a strip's memory is needed.
  void fill_rest(Strip<T> zero) const {
    const int64_t down = program_.down, height = call_.frame.view_height;
    if (!down) return;
    zero.rows = 1;
    for (int64_t c = 0; c < zero.channels; ++c) std::fill_n(zero.row(c, 0), zero.stride, T(0));
    for (int64_t y = std::max<int64_t>(0, height + down); y < height; ++y) write(zero, y);
    for (int64_t y = 0; y < std::min(down, height); ++y) write(zero, y);
  }

 private:
  void write(const Strip<T>& strip, int64_t row) const {
    with_pixel_type(target_.layout.type, [&](auto zero) {
      using O = decltype(zero);
      if constexpr (!std::is_same_v<O, uint8_t>) {
        store_strip<O>(strip, row, normalisation_, target_);
        if (program_.erased.height) erase<O>(strip, row);
      }
    });
  }

  // The last step and the store in one, or false where they don't go together.
  bool stores_by(const Step& step, T mean, const Strip<T>& strip) const {
    const bool moved = program_.right || program_.down;
    const bool planar = target_.layout.column == 1 && strip.channels == 3;
    if (moved || !planar || strip.width < kLanes<T>) return false;
    return with_colour_stage(step, mean, [&](const auto& stage) {
      with_pixel_type(target_.layout.type, [&](auto zero) {
        using O = decltype(zero);
        if constexpr (!std::is_same_v<O, uint8_t>) {
          const auto apply = [&](auto& r, auto& g, auto& b) { apply_to(stage, r, g, b); };
          store_strip_by<O>(strip, strip.top, normalisation_, target_, apply);
          if (program_.erased.height) erase<O>(strip, strip.top);
        }
      });
    });
  }

  // The part of the erased box where a strip was written, from row on.
  template <class O>
  void erase(const Strip<T>& strip, int64_t row) const {
    const Box& box = program_.erased;
    const Layout& layout = target_.layout;
    const O value = from_real<O>(T(call_.erase_value));
    const int64_t end = std::min(row + strip.rows, box.top + box.height);
    for (int64_t y = std::max(row, box.top); y < end; ++y) {
      for (int64_t c = 0; c < strip.channels; ++c) {
        O* const out = static_cast<O*>(target_.data) + c * layout.channel + y * layout.row;
        for (int64_t x = box.left; x < box.left + box.width; ++x) out[x * layout.column] = value;
      }
    }
  }

  const Views& call_;
  const Program& program_;
  const Target& target_;
  const Normalisation<T> normalisation_;
};

}  // namespace

template <class T>
bool augment_forward(const Views& call, void* out, const Layout& layout) {
  const Frame& frame = call.frame;
  std::vector<T> scale(frame.channels, T(1)), shift(frame.channels, T(0));
  for (int64_t c = 0; call.mean && c < frame.channels; ++c) {
    scale[c] = T(1 / call.std[c]);
    shift[c] = T(-call.mean[c] / call.std[c]);
  }
  const int64_t tasks = call.views * call.batch;
  const int64_t view_bytes = layout.image * pixel_bytes(layout.type);
  const bool large = tasks * view_bytes > kCachedBytes;
  const int64_t workers = std::min(tasks, worker_count(tasks * layout.image, kValuesOfThread));
  // Small views are taken some at a time, large ones singly: nobody waits long for the last.
  const int64_t chunk = std::clamp<int64_t>(kValuesOfThread / layout.image, 1, 8);

  std::atomic<int64_t> next{0};
  std::atomic<bool> fits{true};
  parallel_run(workers, [&](int64_t) {
    Scratch scratch;
    Program program;
    for (int64_t begin; (begin = next.fetch_add(chunk, std::memory_order_relaxed)) < tasks;) {
      for (int64_t task = begin; task < std::min(begin + chunk, tasks); ++task) {
        // The views of an image follow each other, while it is in the caches.
        const int64_t image = task / call.views, view = task % call.views;
        const int64_t place = view * call.batch + image;
        if (!read_row(call.draws + place * kRowLength, frame, program)) {
          fits = false;
          return;
        }
        Workspace& memory = scratch.prepare(View<T>::bytes(call, program));
        View<T> one(memory, call, program, image);
        Target target = {static_cast<char*>(out) + place * view_bytes,
                         layout,
                         frame.view_height,
                         frame.view_width,
                         frame.channels,
                         false};
        target.stream = large && !program.erased.height && streams(target);
        const Sink<T> sink(call, program, target, {scale.data(), shift.data()});
        one.run(sink);
        sink.fill_rest(one.strip());
      }
    }
    finish_streams();
  });
  return fits;
}

template bool augment_forward<float>(const Views&, void*, const Layout&);
template bool augment_forward<double>(const Views&, void*, const Layout&);

}  // namespace sslk::augment
