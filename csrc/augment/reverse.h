// The gradients of pointwise steps over a strip.
#pragma once

#include "steps.h"

namespace sslk::augment {

template <class T, class Stage>
SSLK_INLINE void reverse_values(const Strip<T>& input, const Strip<T>& gradient,
                                const Stage& stage) {
  for (int64_t c = 0; c < gradient.channels; ++c) {
    const T* const x = input.row(c, 0);
    T* const g = gradient.row(c, 0);
    for (int64_t i = 0; i < gradient.count(); i += kLanes<T>) {
      Vec<T> d = load(g + i);
      stage.reverse(load(x + i), d);
      store(g + i, d);
    }
  }
}

// reverse(offset in the plane, dr, dg, db).
template <class T, class Reverse>
SSLK_INLINE void reverse_pixels(const Strip<T>& gradient, Reverse&& reverse) {
  T* const g = gradient.data;
  const int64_t plane = gradient.plane;
  for (int64_t i = 0; i < gradient.count(); i += kLanes<T>) {
    Vec<T> dr = load(g + i), dg = load(g + plane + i), db = load(g + 2 * plane + i);
    reverse(i, dr, dg, db);
    store(g + i, dr);
    store(g + plane + i, dg);
    store(g + 2 * plane + i, db);
  }
}

template <class T, class Stage>
SSLK_INLINE void reverse_pixels(const Strip<T>& input, const Strip<T>& gradient,
                                const Stage& stage) {
  const T* const x = input.data;
  reverse_pixels(gradient, [&](int64_t i, Vec<T>& dr, Vec<T>& dg, Vec<T>& db) {
    stage.reverse(load(x + i), load(x + input.plane + i), load(x + 2 * input.plane + i), dr, dg,
                  db);
  });
}

// Turns the gradient of a step's output into that of its input. Returns what flows to the mean that
// the step uses, if it does, summed over the strip.
template <class T>
double reverse_step(const Step& step, T mean, uint64_t noise_seed, const Strip<T>& input,
                    const Strip<T>& gradient) {
  const T factor = T(step.factor);
  switch (step.op) {
    case Op::kBrightness:
      reverse_values(input, gradient, Brightness<T>{factor});
      break;
    case Op::kContrast: {
      const Contrast<T> contrast = {factor, mean};
      double total = 0;
      for (int64_t c = 0; c < gradient.channels; ++c) {
        const T* const x = input.row(c, 0);
        T* const g = gradient.row(c, 0);
        total += sum_pixels(gradient, [&](int64_t i) {
          const Vec<T> passed = unit_clamp_gradient<T>(contrast.blend(load(x + i)), load(g + i));
          store(g + i, passed * factor);
          return passed;
        });
      }
      return total * (1 - double(factor));
    }
    case Op::kSaturation:
      reverse_pixels(input, gradient, Saturation<T>{factor});
      break;
    case Op::kHue:
      reverse_pixels(input, gradient, Hue<T>(factor));
      break;
    case Op::kGrayscale:
      reverse_pixels(gradient, [](int64_t, Vec<T>& dr, Vec<T>& dg, Vec<T>& db) {
        Grayscale<T>{}.reverse(dr, dg, db);
      });
      break;
    case Op::kSolarize:
      reverse_values(input, gradient, Solarize<T>{factor});
      break;
    case Op::kNoise:
      reverse_noise(input, noise_seed, factor, gradient);
      break;
    case Op::kDiffBrightness:
      break;
    case Op::kDiffSaturation:
      change_distance_from_gray(gradient, gradient, factor);
      break;
    case Op::kDiffContrast: {
      double total = 0;
      for (int64_t c = 0; c < gradient.channels; ++c) {
        T* const g = gradient.row(c, 0);
        total += sum_pixels(gradient, [&](int64_t i) {
          const Vec<T> passed = load(g + i);
          store(g + i, passed * factor);
          return passed;
        });
      }
      return total * (1 - double(factor));
    }
  }
  return 0;
}

}  // namespace sslk::augment
