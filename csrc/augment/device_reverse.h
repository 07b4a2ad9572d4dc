// Gradients of pointwise steps on one pixel: the stages are those of the CPU.
#pragma once

#include "device_steps.h"

namespace sslk::augment {

template <class T, int kChannels, class Stage>
__device__ void reverse_values(const Stage& stage, const Pixel<T, kChannels>& input,
                               Pixel<T, kChannels>& gradient) {
  for (int c = 0; c < kChannels; ++c) stage.reverse(input.of[c], gradient.of[c]);
}

template <class T, int kChannels, class Stage>
__device__ void reverse_colour(const Stage& stage, const Pixel<T, kChannels>& input,
                               Pixel<T, kChannels>& gradient) {
  if constexpr (kChannels == 3) {
    stage.reverse(input.of[0], input.of[1], input.of[2], gradient.of[0], gradient.of[1],
                  gradient.of[2]);
  }
}

// Passes where x, which a clamp got, lies within its bounds or on them.
template <class T, int kChannels>
__device__ void reverse_clamp(const Pixel<T, kChannels>& x, Pixel<T, kChannels>& gradient) {
  for (int c = 0; c < kChannels; ++c) {
    gradient.of[c] = unit_clamp_gradient<T>(x.of[c], gradient.of[c]);
  }
}

// Back through x * factor + (1 - factor) * mean; returns what flows to the mean.
template <class T, int kChannels>
__device__ T reverse_blend(T factor, Pixel<T, kChannels>& gradient) {
  T to_mean = 0;
  for (int c = 0; c < kChannels; ++c) {
    to_mean += gradient.of[c];
    gradient.of[c] *= factor;
  }
  return to_mean * (T(1) - factor);
}

// From the gradient of a step's output to that of its input; returns what flows to the mean.
template <class T, int kChannels>
__device__ T reverse_step(const Step& step, T mean, uint64_t noise_seed, uint32_t number,
                          const Pixel<T, kChannels>& input, Pixel<T, kChannels>& gradient) {
  const T factor = T(step.factor);
  switch (step.op) {
    case Op::kBrightness:
      reverse_values(Brightness<T>{factor}, input, gradient);
      break;
    case Op::kContrast: {
      Pixel<T, kChannels> blended;
      for (int c = 0; c < kChannels; ++c) {
        blended.of[c] = Contrast<T>{factor, mean}.blend(input.of[c]);
      }
      reverse_clamp(blended, gradient);
      return reverse_blend(factor, gradient);
    }
    case Op::kSaturation:
      reverse_colour(Saturation<T>{factor}, input, gradient);
      break;
    case Op::kHue:
      reverse_colour(Hue<T>(factor), input, gradient);
      break;
    case Op::kGrayscale:
      if constexpr (kChannels == 3) {
        Grayscale<T>{}.reverse(gradient.of[0], gradient.of[1], gradient.of[2]);
      }
      break;
    case Op::kSolarize:
      reverse_values(Solarize<T>{factor}, input, gradient);
      break;
    case Op::kNoise:
      reverse_clamp(with_noise(input, noise_seed, number, factor), gradient);
      break;
    case Op::kDiffBrightness:
      break;
    case Op::kDiffSaturation:
      change_distance_from_gray(gradient, factor);  // its matrix is symmetric
      break;
    case Op::kDiffContrast:
      return reverse_blend(factor, gradient);
  }
  return 0;
}

// From the gradient of what the steps of a segment make of `input` to that of the input, which is
// of no use where none of them needs it. Returns what flows to the mean.
template <class T, int kChannels>
__device__ T reverse_steps(const Segment& segment, T mean, uint64_t noise_seed, uint32_t number,
                           const Pixel<T, kChannels>& input, Pixel<T, kChannels>& gradient) {
  Pixel<T, kChannels> inputs[sizeof(Segment::steps) / sizeof(Step)];
  inputs[0] = input;
  const int needed = steps_that_need_input(segment);
  for (int s = 1; s < needed; ++s) {
    inputs[s] = inputs[s - 1];
    apply_step(segment.steps[s - 1], mean, noise_seed, number, inputs[s]);
  }
  T to_mean = 0;
  for (int s = segment.count - 1; s >= 0; --s) {
    const Pixel<T, kChannels>& seen = inputs[s < needed ? s : 0];
    to_mean += reverse_step(segment.steps[s], mean, noise_seed, number, seen, gradient);
  }
  return to_mean;
}

// The gradient of what a mean is one of, for the share of each value in that of the mean.
template <class T, int kChannels>
__device__ void add_share_in_mean(Entry entry, T share, Pixel<T, kChannels>& gradient) {
  if constexpr (kChannels == 3) {
    if (entry == Entry::kLumaMean) {
      gradient.of[0] += share * T(kLumaRed);
      gradient.of[1] += share * T(kLumaGreen);
      gradient.of[2] += share * T(kLumaBlue);
      return;
    }
  }
  for (int c = 0; c < kChannels; ++c) gradient.of[c] += share;
}

}  // namespace sslk::augment
