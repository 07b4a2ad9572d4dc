// Runs of pointwise steps over a strip.
#pragma once

#include "colour.h"
#include "hue.h"
#include "noise.h"
#include "program.h"

namespace sslk::augment {

template <class T, class Stage>
SSLK_INLINE void for_each_value(const Strip<T>& from, const Strip<T>& to, const Stage& stage) {
  for (int64_t c = 0; c < from.channels; ++c) {
    const T* const in = from.row(c, 0);
    T* const out = to.row(c, 0);
    for (int64_t i = 0; i < from.count(); i += kLanes<T>) {
      Vec<T> x = load(in + i);
      stage.apply(x);
      store(out + i, x);
    }
  }
}

template <class T, class Stage>
SSLK_INLINE void for_each_pixel(const Strip<T>& from, const Strip<T>& to, const Stage& stage) {
  const T* const in = from.data;
  T* const out = to.data;
  for (int64_t i = 0; i < from.count(); i += kLanes<T>) {
    Vec<T> r = load(in + i), g = load(in + from.plane + i), b = load(in + 2 * from.plane + i);
    stage.apply(r, g, b);
    store(out + i, r);
    store(out + to.plane + i, g);
    store(out + 2 * to.plane + i, b);
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
      return for_each_pixel(from, to, Saturation<T>{factor});
    case Op::kHue:
      return for_each_pixel(from, to, Hue<T>(factor));
    case Op::kGrayscale:
      return for_each_pixel(from, to, Grayscale<T>{});
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
