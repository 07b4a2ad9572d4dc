// Pointwise steps on one pixel: the stages are those of the CPU.
#pragma once

#include "../philox.h"
#include "colour.h"
#include "device_call.h"
#include "hue.h"
#include "normal.h"

namespace sslk::augment {

template <class T, int kChannels, class Stage>
__device__ void apply_to_values(const Stage& stage, Pixel<T, kChannels>& pixel) {
  for (int c = 0; c < kChannels; ++c) stage.apply(pixel.of[c]);
}

// Stages of colour are of three channels; programs have none for others.
template <class T, int kChannels, class Stage>
__device__ void apply_to_colour(const Stage& stage, Pixel<T, kChannels>& pixel) {
  if constexpr (kChannels == 3) stage.apply(pixel.of[0], pixel.of[1], pixel.of[2]);
}

// A pixel with noise, not yet clamped. number: of the pixel in its view.
template <class T, int kChannels>
__device__ Pixel<T, kChannels> with_noise(Pixel<T, kChannels> pixel, uint64_t seed, uint32_t number,
                                          T deviation) {
  const PhiloxBlock block = philox_block(seed, Stream::kAugmentNoise, 0, number);
  T normals[4];
  normal_pair(block.word[0], block.word[1], normals);
  normal_pair(block.word[2], block.word[3], normals + 2);
  for (int c = 0; c < kChannels; ++c) pixel.of[c] += normals[c] * deviation;
  return pixel;
}
template <class T, int kChannels>
__device__ void add_noise(Pixel<T, kChannels>& pixel, uint64_t seed, uint32_t number, T deviation) {
  pixel = with_noise(pixel, seed, number, deviation);
  for (int c = 0; c < kChannels; ++c) pixel.of[c] = unit_clamp<T>(pixel.of[c]);
}

template <class T, int kChannels>
__device__ void change_distance_from_gray(Pixel<T, kChannels>& pixel, T factor) {
  T mean = 0;
  for (int c = 0; c < kChannels; ++c) mean += pixel.of[c];
  mean *= T(1) / T(kChannels);
  for (int c = 0; c < kChannels; ++c) pixel.of[c] = (pixel.of[c] - mean) * factor + mean;
}

// mean: what the segment's entry found.
template <class T, int kChannels>
__device__ void apply_step(const Step& step, T mean, uint64_t noise_seed, uint32_t number,
                           Pixel<T, kChannels>& pixel) {
  const T factor = T(step.factor);
  switch (step.op) {
    case Op::kBrightness:
      return apply_to_values(Brightness<T>{factor}, pixel);
    case Op::kContrast:
      return apply_to_values(Contrast<T>{factor, mean}, pixel);
    case Op::kSaturation:
      return apply_to_colour(Saturation<T>{factor}, pixel);
    case Op::kHue:
      return apply_to_colour(Hue<T>(factor), pixel);
    case Op::kGrayscale:
      return apply_to_colour(Grayscale<T>{}, pixel);
    case Op::kSolarize:
      return apply_to_values(Solarize<T>{factor}, pixel);
    case Op::kNoise:
      return add_noise(pixel, noise_seed, number, factor);
    case Op::kDiffBrightness:
      return apply_to_values(DiffBrightness<T>{factor}, pixel);
    case Op::kDiffSaturation:
      return change_distance_from_gray(pixel, factor);
    case Op::kDiffContrast:
      return apply_to_values(DiffContrast<T>{factor, mean}, pixel);
  }
}

// What a mean is one of: see values_in_mean.
template <class T, int kChannels>
__device__ T share_in_mean(Entry entry, const Pixel<T, kChannels>& pixel) {
  if constexpr (kChannels == 3) {
    if (entry == Entry::kLumaMean) return luma(pixel.of[0], pixel.of[1], pixel.of[2]);
  }
  T sum = 0;
  for (int c = 0; c < kChannels; ++c) sum += pixel.of[c];
  return sum;
}

}  // namespace sslk::augment
