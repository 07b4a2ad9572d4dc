// Runs of pointwise steps over a strip.
#pragma once

#include "colour.h"
#include "hue.h"
#include "noise.h"
#include "program.h"

namespace sslk::augment {

template <class T, class Stage>
SSLK_INLINE void for_each_value(const Strip<T>& strip, const Stage& stage) {
  for (int64_t c = 0; c < strip.channels; ++c) {
    T* const p = strip.row(c, 0);
    for (int64_t i = 0; i < strip.count(); i += kLanes<T>) {
      Vec<T> x = load(p + i);
      stage.apply(x);
      store(p + i, x);
    }
  }
}

template <class T, class Stage>
SSLK_INLINE void for_each_pixel(const Strip<T>& strip, const Stage& stage) {
  T* const p = strip.data;
  for (int64_t i = 0; i < strip.count(); i += kLanes<T>) {
    Vec<T> r = load(p + i), g = load(p + strip.plane + i), b = load(p + 2 * strip.plane + i);
    stage.apply(r, g, b);
    store(p + i, r);
    store(p + strip.plane + i, g);
    store(p + 2 * strip.plane + i, b);
  }
}

// mean: what the segment's entry found.
template <class T>
void apply_step(const Step& step, T mean, uint64_t noise_seed, const Strip<T>& strip) {
  const T factor = T(step.factor);
  switch (step.op) {
    case Op::kBrightness:
      return for_each_value(strip, Brightness<T>{factor});
    case Op::kContrast:
      return for_each_value(strip, Contrast<T>{factor, mean});
    case Op::kSaturation:
      return for_each_pixel(strip, Saturation<T>{factor});
    case Op::kHue:
      return for_each_pixel(strip, Hue<T>(factor));
    case Op::kGrayscale:
      return for_each_pixel(strip, Grayscale<T>{});
    case Op::kSolarize:
      return for_each_value(strip, Solarize<T>{factor});
    case Op::kNoise:
      return add_noise(strip, noise_seed, factor);
    case Op::kDiffBrightness:
      return for_each_value(strip, DiffBrightness<T>{factor});
    case Op::kDiffSaturation:
      return change_distance_from_gray(strip, factor);
    case Op::kDiffContrast:
      return for_each_value(strip, DiffContrast<T>{factor, mean});
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
