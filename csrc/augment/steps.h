// Runs of pointwise steps over a strip.
#pragma once

#include "colour.h"
#include "hue.h"
#include "noise.h"
#include "program.h"
#include "strip.h"

namespace sslk::augment {

template <class T, class Stage>
SSLK_INLINE void for_each_value(const Strip<T>& from, const Strip<T>& to, const Stage& stage) {
  for (int64_t c = 0; c < from.channels; ++c) {
    const T* const in = from.row(c, 0);
    T* const out = to.row(c, 0);
    const int64_t n = from.count();
    for (int64_t i = 0; i < n; i += kLanes<T>) {
      Vec<T> x = load(in + i);
      stage.apply(x);
      store(out + i, x);
    }
  }
}

template <class T, class Apply>
SSLK_INLINE void for_each_pixel(const Strip<T>& from, const Strip<T>& to, const Apply& apply) {
  const T* const in = from.data;
  T* const out = to.data;
  const int64_t n = from.count(), in_plane = from.plane, out_plane = to.plane;
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    Vec<T> r = load(in + i), g = load(in + in_plane + i), b = load(in + 2 * in_plane + i);
    apply(r, g, b);
    store(out + i, r);
    store(out + out_plane + i, g);
    store(out + 2 * out_plane + i, b);
  }
}

template <class T, class Stage>
SSLK_INLINE void for_each_colour(const Strip<T>& from, const Strip<T>& to, const Stage& stage) {
  for_each_pixel(from, to, [&](auto& r, auto& g, auto& b) { stage.apply(r, g, b); });
}

// Distance from the mean of the channels. The matrix is symmetric, so that it is its own gradient.
template <class T>
void change_distance_from_gray(const Strip<T>& from, const Strip<T>& to, T factor) {
  const T share = T(1) / T(from.channels);
  for (int64_t i = 0; i < from.count(); i += kLanes<T>) {
    Vec<T> mean = {};
    for (int64_t c = 0; c < from.channels; ++c) mean += load(from.row(c, 0) + i);
    mean *= share;
    for (int64_t c = 0; c < from.channels; ++c) {
      store(to.row(c, 0) + i, (load(from.row(c, 0) + i) - mean) * factor + mean);
    }
  }
}

// One stage for all three channels.
template <class Stage, class V>
SSLK_INLINE void apply_to(const Stage& stage, V& r, V& g, V& b) {
  if constexpr (requires { stage.apply(r, g, b); }) {
    stage.apply(r, g, b);
  } else {
    stage.apply(r);
    stage.apply(g);
    stage.apply(b);
  }
}

// Calls f(stage) where the step is one of jitter or grayscale, else returns false.
template <class T, class F>
SSLK_INLINE bool with_colour_stage(const Step& step, T mean, F&& f) {
  const T factor = T(step.factor);
  switch (step.op) {
    case Op::kBrightness:
      return f(Brightness<T>{factor}), true;
    case Op::kContrast:
      return f(Contrast<T>{factor, mean}), true;
    case Op::kSaturation:
      return f(Saturation<T>{factor}), true;
    case Op::kHue:
      return f(Hue<T>(factor)), true;
    case Op::kGrayscale:
      return f(Grayscale<T>{}), true;
    default:
      return false;
  }
}

// From a strip to another, or the same one. mean: what the segment's entry found.
template <class T>
void apply_step(const Step& step, T mean, uint64_t noise_seed, const Strip<T>& from,
                const Strip<T>& to) {
  const T factor = T(step.factor);
  switch (step.op) {
    case Op::kBrightness:
      return for_each_value(from, to, Brightness<T>{factor});
    case Op::kContrast:
      return for_each_value(from, to, Contrast<T>{factor, mean});
    case Op::kSaturation:
      return for_each_colour(from, to, Saturation<T>{factor});
    case Op::kHue:
      return for_each_colour(from, to, Hue<T>(factor));
    case Op::kGrayscale:
      return for_each_colour(from, to, Grayscale<T>{});
    case Op::kSolarize:
      return for_each_value(from, to, Solarize<T>{factor});
    case Op::kNoise:
      return add_noise(from, to, noise_seed, factor);
    case Op::kDiffBrightness:
      return for_each_value(from, to, DiffBrightness<T>{factor});
    case Op::kDiffSaturation:
      return change_distance_from_gray(from, to, factor);
    case Op::kDiffContrast:
      return for_each_value(from, to, DiffContrast<T>{factor, mean});
  }
}

// Two steps in one pass, or false where there is no such pass.
template <class T>
bool apply_two(const Step& first, const Step& second, T mean, const Strip<T>& from,
               const Strip<T>& to) {
  bool done = false;
  with_colour_stage(first, mean, [&](const auto& one) {
    done = with_colour_stage(second, mean, [&](const auto& other) {
      for_each_pixel(from, to, [&](Vec<T>& r, Vec<T>& g, Vec<T>& b) {
        apply_to(one, r, g, b);
        apply_to(other, r, g, b);
      });
    });
  });
  return done;
}

// The first count steps of a segment, at least one where the strips are not the same.
template <class T>
void apply_steps(const Segment& segment, int count, T mean, uint64_t noise_seed,
                 const Strip<T>& from, const Strip<T>& to) {
  for (int s = 0; s < count; ++s) {
    const Step* const step = &segment.steps[s];
    const Strip<T>& in = s ? to : from;
    if (in.channels == 3 && s + 1 < count && apply_two(step[0], step[1], mean, in, to)) {
      ++s;
    } else {
      apply_step(*step, mean, noise_seed, in, to);
    }
  }
}

// Sum over a strip and its channels.
template <class T>
double overall_sum(const Strip<T>& strip) {
  double total = 0;
  for (int64_t c = 0; c < strip.channels; ++c) {
    const T* const p = strip.row(c, 0);
    total += sum_pixels(strip, [&](int64_t i) { return load(p + i); });
  }
  return total;
}

// Sum of the luma over a strip; of all channels where they are not three.
template <class T>
double luma_sum(const Strip<T>& strip) {
  const T* const p = strip.data;
  if (strip.channels == 3) {
    return sum_pixels(strip, [&](int64_t i) {
      return luma(load(p + i), load(p + strip.plane + i), load(p + 2 * strip.plane + i));
    });
  }
  return overall_sum(strip);
}

}  // namespace sslk::augment
