// One row of draws: what happens to one view of one sample.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "../philox.h"
#include "draws.h"
#include "program.h"

namespace sslk::augment {

// layout.Number.
enum Number {
  kViewHeight,
  kViewWidth,
  kCrop,
  kCropScale,  // low and span, as of all ranges
  kCropScaleSpan,
  kCropLogRatio,
  kCropLogRatioSpan,
  kCropRatioLow,
  kCropRatioHigh,
  kHorizontalFlipBelow,
  kVerticalFlipBelow,
  kRotationBelow,
  kRotationRange,
  kRotationSpan,
  kJitterBelow,
  kJitter,  // whether, low and span for each of the four
  kGrayscaleBelow = kJitter + 12,
  kBlurBelow,
  kBlurSigmaRange,
  kBlurSigmaSpan,
  kSolarizeBelow,
  kSolarizeThreshold,
  kNoiseBelow,
  kNoiseRange,
  kNoiseSpan,
  kEraseBelow,
  kEraseScale,
  kEraseScaleSpan,
  kEraseLogRatio,
  kEraseLogRatioSpan,
  kCutout,
  kTranslation,
  kDiffRanges,  // low and span of brightness, saturation and contrast
};

// Which block of words is for what.
constexpr uint32_t kAttempts = 10;
constexpr uint32_t kCropDraw = 0, kTurnDraw = 10, kChoiceDraw = 11, kJitterDraw = 12,
                   kPixelDraw = 13, kKeyDraw = 14, kEraseDraw = 15, kDiffDraw = 25, kShiftDraw = 26;
constexpr float kNoSolarize = 2;

// The words of one sample and view. Blocks are made as they are asked for.
class Words {
 public:
  SSLK_HOST_DEVICE Words(uint64_t seed, uint32_t epoch, uint64_t id, uint32_t view)
      : seed_(seed), epoch_(epoch), id_(id), first_(65536 * view) {}

  SSLK_HOST_DEVICE PhiloxBlock block(uint32_t draw) const {
    return philox_block(seed_, Stream::kAugment, id_, first_ + draw, epoch_);
  }

 private:
  uint64_t seed_;
  uint32_t epoch_;
  uint64_t id_;
  uint32_t first_;
};

// Uniform on [range[0], range[0] + range[1]]: the product is exact.
SSLK_HOST_DEVICE inline double between(uint32_t word, const double* range) {
  return double(float(range[0] + range[1] * (double(word >> 8) * 0x1p-24)));
}

SSLK_HOST_DEVICE inline bool below(uint32_t word, double threshold) {
  return double(word) < threshold;
}

// 2^x; see EXP2 in draws.py.
SSLK_HOST_DEVICE inline double exp2_defined(double x) {
  constexpr float kCoefficients[] = {1.535336188319500e-4f,
                                     1.339887440266574e-3f,
                                     9.618437357674640e-3f,
                                     5.550332471162809e-2f,
                                     2.402264791363012e-1f,
                                     6.931472028550421e-1f,
                                     1.0f};
  const double n = std::floor(x + 0.5), f = x - n;
  double value = 0;
  for (float c : kCoefficients) value = double(float(value * f + double(c)));
  return value * std::bit_cast<double>(uint64_t(int64_t(n) + 1023) << 52);
}

SSLK_HOST_DEVICE inline double side(double area) { return std::floor(std::sqrt(area) + 0.5); }

// A box of a random area and ratio; across is to down as the ratio is.
struct Attempt {
  double down, across;
  uint32_t top, left;  // words
};
SSLK_HOST_DEVICE inline Attempt attempt(const PhiloxBlock& words, double area_of_all,
                                        const double* scale, const double* log_ratio,
                                        bool ratio_is_height) {
  const double area = area_of_all * between(words.word[0], scale);
  const double ratio = exp2_defined(between(words.word[1], log_ratio));
  const double one = side(area * ratio), two = side(area / ratio);
  return {ratio_is_height ? one : two, ratio_is_height ? two : one, words.word[2], words.word[3]};
}

SSLK_HOST_DEVICE inline void put_box(float* slot, double top, double left, double height,
                                     double width) {
  slot[0] = float(top);
  slot[1] = float(left);
  slot[2] = float(height);
  slot[3] = float(width);
}
SSLK_HOST_DEVICE inline void put_attempt(float* slot, const Attempt& box, int64_t height,
                                         int64_t width) {
  put_box(slot, philox_below(box.top, uint32_t(height - int64_t(box.down) + 1)),
          philox_below(box.left, uint32_t(width - int64_t(box.across) + 1)), box.down, box.across);
}

// torchvision's RandomResizedCrop: the first attempt that fits, else the middle.
SSLK_HOST_DEVICE inline void draw_crop(const Words& words, const double* n, int64_t height,
                                       int64_t width, float* slot) {
  if (!n[kCrop]) return put_box(slot, 0, 0, double(height), double(width));
  for (uint32_t i = 0; i < kAttempts; ++i) {
    const Attempt box = attempt(words.block(kCropDraw + i), double(height * width), n + kCropScale,
                                n + kCropLogRatio, false);
    if (box.across >= 1 && box.across <= double(width) && box.down >= 1 &&
        box.down <= double(height)) {
      return put_attempt(slot, box, height, width);
    }
  }
  double down = double(height), across = double(width);
  if (across / down < n[kCropRatioLow]) {
    down = std::max(1.0, std::floor(across / n[kCropRatioLow] + 0.5));
  } else if (across / down > n[kCropRatioHigh]) {
    across = std::max(1.0, std::floor(down * n[kCropRatioHigh] + 0.5));
  }
  put_box(slot, std::floor((double(height) - down) / 2), std::floor((double(width) - across) / 2),
          down, across);
}

// torchvision's RandomErasing: the first attempt smaller than the view, else none.
SSLK_HOST_DEVICE inline void draw_erasing(const Words& words, const double* n, float* slot) {
  const double height = n[kViewHeight], width = n[kViewWidth];
  for (uint32_t i = 0; i < kAttempts; ++i) {
    const Attempt box = attempt(words.block(kEraseDraw + i), height * width, n + kEraseScale,
                                n + kEraseLogRatio, true);
    if (box.down < height && box.across < width) {
      return put_attempt(slot, box, int64_t(height), int64_t(width));
    }
  }
}

// Translation, and DiffAugment's rand_cutout: a box around any pixel, cut off at the border.
SSLK_HOST_DEVICE inline void draw_shifts(const Words& words, const double* n, float* row) {
  const PhiloxBlock shift = words.block(kShiftDraw);
  for (int i = 0; i < 2; ++i) {
    const int64_t side = int64_t(n[kViewHeight + i]);
    const int64_t most = int64_t(n[kTranslation] * double(side) + 0.5);
    row[kDown + i] = float(int64_t(philox_below(shift.word[i], uint32_t(2 * most + 1))) - most);
    if (!n[kCutout]) continue;
    const int64_t length = int64_t(n[kCutout] * double(side) + 0.5);
    const int64_t centre = philox_below(shift.word[2 + i], uint32_t(side + 1 - length % 2));
    const int64_t begin = std::max<int64_t>(0, centre - length / 2);
    row[kEraseTop + i] = float(begin);
    row[kEraseHeight + i] = float(std::min(side, centre - length / 2 + length) - begin);
  }
}

// Element i of permutation `which` of 0 ... 3, in lexicographic order.
SSLK_HOST_DEVICE inline int ordered(uint32_t which, int i) {
  uint32_t left = 0x3210;  // four bits for each that is left
  uint32_t taken = 0;
  for (int k = 0; k <= i; ++k) {
    constexpr uint32_t kOrdersOfRest = 0x1126;  // 3!, 2!, 1!, 0!
    const uint32_t rest = kOrdersOfRest >> 4 * k & 15;
    const uint32_t at = which / rest * 4;
    which %= rest;
    taken = left >> at & 15;
    left = (left & ((1u << at) - 1)) | (left >> (at + 4) << at);
  }
  return int(taken);
}

// Blur, solarizing and noise.
SSLK_HOST_DEVICE inline void draw_pixel_stages(const Words& words, const PhiloxBlock& choice,
                                               const double* n, float* row) {
  const PhiloxBlock pixel = words.block(kPixelDraw);
  if (below(choice.word[3], n[kBlurBelow])) {
    row[kBlurSigma] = float(between(pixel.word[0], n + kBlurSigmaRange));
  }
  if (below(pixel.word[1], n[kSolarizeBelow])) row[kSolarize] = float(n[kSolarizeThreshold]);
  if (below(pixel.word[2], n[kNoiseBelow])) {
    row[kNoise] = float(between(pixel.word[3], n + kNoiseRange));
  }
}

// Blocks of words that can change nothing are not made.
SSLK_HOST_DEVICE inline void draw_row(const Words& words, const double* n, int64_t height,
                                      int64_t width, float* row) {
  std::fill_n(row, kRowLength, 0.0f);
  draw_crop(words, n, height, width, row + kTop);

  const PhiloxBlock turn = words.block(kTurnDraw);
  row[kHorizontalFlip] = below(turn.word[0], n[kHorizontalFlipBelow]);
  row[kVerticalFlip] = below(turn.word[1], n[kVerticalFlipBelow]);
  if (below(turn.word[2], n[kRotationBelow])) {
    row[kRotation] = float(between(turn.word[3], n + kRotationRange));
  }

  const PhiloxBlock choice = words.block(kChoiceDraw), jitter = words.block(kJitterDraw);
  const uint32_t order = philox_below(choice.word[1], 24);
  const bool jitters = below(choice.word[0], n[kJitterBelow]);
  for (int i = 0; i < 4; ++i) {
    const int which = ordered(order, i);
    row[kOrder + i] = jitters && n[kJitter + 3 * which] ? float(which) : -1.0f;
    row[kJitterFactors + i] = float(between(jitter.word[i], n + kJitter + 3 * i + 1));
  }
  row[kGrayscale] = below(choice.word[2], n[kGrayscaleBelow]);

  row[kSolarize] = kNoSolarize;
  if (n[kBlurBelow] || n[kSolarizeBelow] || n[kNoiseBelow]) {
    draw_pixel_stages(words, choice, n, row);
  }

  const double* const ranges = n + kDiffRanges;
  const bool varies = ranges[1] || ranges[3] || ranges[5];
  const PhiloxBlock diff = varies ? words.block(kDiffDraw) : PhiloxBlock{};
  for (int i = 0; i < 3; ++i) {
    row[kDiffBrightness + i] = float(between(diff.word[i], ranges + 2 * i));
  }

  const PhiloxBlock key = words.block(kKeyDraw);
  for (int i = 0; i < 2; ++i) row[kNoiseKey + i] = float(key.word[i] >> 8);
  if (below(key.word[2], n[kEraseBelow])) draw_erasing(words, n, row + kEraseTop);
  if (n[kTranslation] || n[kCutout]) draw_shifts(words, n, row);
}

}  // namespace sslk::augment
