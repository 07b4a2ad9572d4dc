// From a row of draws to what is to be done with an image.
#pragma once

#include "../host_device.h"
#include "program.h"

namespace sslk::augment {

constexpr float kLargestTurn = 1e4f;  // degrees
constexpr float kLargestKey = 0x1p24f;

// [begin, begin + length) as part of [0, side), or nothing when it is not.
SSLK_HOST_DEVICE inline bool read_span(float begin, float length, int64_t side, int64_t& first,
                                       int64_t& count) {
  if (!(begin >= 0 && length >= 1 && begin + length <= float(side))) return false;
  first = int64_t(begin);
  count = int64_t(length);
  return true;
}

// Whether a number lies in [low, high]; NaN does not.
SSLK_HOST_DEVICE inline bool within(float x, float low, float high) {
  return x >= low && x <= high;
}

SSLK_HOST_DEVICE inline bool read_shift(float shift, int64_t side, int64_t& pixels) {
  if (!within(shift, -float(side), float(side))) return false;
  pixels = int64_t(shift);
  return true;
}

// False when the row cannot be of such images and views.
SSLK_HOST_DEVICE inline bool read_row(const float* row, const Frame& frame, Program& program) {
  program = Program();
  const bool coloured = frame.channels == 3;
  Segment* segment = program.segments;
  program.count = 1;
  const auto enter = [&](Entry entry) {
    segment = &program.segments[program.count++];
    segment->entry = entry;
  };
  const auto add = [&](Op op, float factor) { segment->steps[segment->count++] = {op, factor}; };
  const auto may = [&](StageBit stage) { return (frame.stages & stage) != 0; };

  Box& crop = program.crop;
  if (!read_span(row[kTop], row[kHeight], frame.height, crop.top, crop.height)) return false;
  if (!read_span(row[kLeft], row[kWidth], frame.width, crop.left, crop.width)) return false;
  program.horizontal_flip = row[kHorizontalFlip] != 0;
  program.vertical_flip = row[kVerticalFlip] != 0;
  if (may(kMayRotate) && row[kRotation] != 0) {
    if (!within(row[kRotation], -kLargestTurn, kLargestTurn)) return false;
    enter(Entry::kRotate);
    program.rotation = row[kRotation];
  }
  if (may(kMayColour)) {
    int contrasts = 0;
    for (int i = 0; i < 4; ++i) {
      const float which = row[kOrder + i];
      if (which == 0) {
        add(Op::kBrightness, row[kJitterFactors]);
      } else if (which == 1) {
        if (contrasts++) return false;
        enter(Entry::kLumaMean);
        add(Op::kContrast, row[kJitterFactors + 1]);
      } else if (which == 2) {
        if (coloured) add(Op::kSaturation, row[kJitterFactors + 2]);
      } else if (which == 3) {
        if (coloured) add(Op::kHue, row[kJitterFactors + 3]);
      } else if (which != -1) {
        return false;
      }
    }
  }
  if (may(kMayGrayscale) && row[kGrayscale] != 0 && coloured) add(Op::kGrayscale, 0);
  if (may(kMayBlur) && row[kBlurSigma] > 0) {
    enter(Entry::kBlur);
    program.blur_sigma = row[kBlurSigma];
  }
  if (may(kMaySolarize) && row[kSolarize] <= 1) add(Op::kSolarize, row[kSolarize]);
  if (may(kMayNoise) && row[kNoise] > 0) {
    for (int i = 0; i < 2; ++i) {
      if (!within(row[kNoiseKey + i], 0, kLargestKey)) return false;
    }
    add(Op::kNoise, row[kNoise]);
    program.noise_seed = uint64_t(row[kNoiseKey]) | uint64_t(row[kNoiseKey + 1]) << 32;
  }
  if (may(kMayDiffColour)) {
    if (row[kDiffBrightness] != 0) add(Op::kDiffBrightness, row[kDiffBrightness]);
    if (row[kDiffSaturation] != 1 && frame.channels > 1)
      add(Op::kDiffSaturation, row[kDiffSaturation]);
    if (row[kDiffContrast] != 1) {
      enter(Entry::kOverallMean);
      add(Op::kDiffContrast, row[kDiffContrast]);
    }
  }
  if (may(kMayTranslate)) {
    if (!read_shift(row[kDown], frame.view_height, program.down)) return false;
    if (!read_shift(row[kRight], frame.view_width, program.right)) return false;
  }
  if (may(kMayErase) && row[kEraseHeight] > 0 && row[kEraseWidth] > 0) {
    Box& box = program.erased;
    const float top = row[kEraseTop], left = row[kEraseLeft];
    if (!read_span(top, row[kEraseHeight], frame.view_height, box.top, box.height)) return false;
    if (!read_span(left, row[kEraseWidth], frame.view_width, box.left, box.width)) return false;
  }
  return true;
}

}  // namespace sslk::augment
