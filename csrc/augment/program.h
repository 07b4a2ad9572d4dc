// A row of draws, and what is to be done with an image because of it.
#pragma once

#include <cstdint>

#include "../host_device.h"

namespace sslk::augment {

constexpr int64_t kRowLength = 32;

// Columns of a row; sslkernels/augment/layout.py says what they hold.
enum Slot {
  kTop = 0,
  kLeft = 1,
  kHeight = 2,
  kWidth = 3,
  kHorizontalFlip = 4,
  kVerticalFlip = 5,
  kRotation = 6,
  kOrder = 8,
  kJitterFactors = 12,  // brightness, contrast, saturation, hue
  kGrayscale = 16,
  kBlurSigma = 17,
  kSolarize = 18,
  kNoise = 19,
  kEraseTop = 20,
  kEraseLeft = 21,
  kEraseHeight = 22,
  kEraseWidth = 23,
  kDown = 24,
  kRight = 25,
  kDiffBrightness = 26,
  kDiffSaturation = 27,
  kDiffContrast = 28,
  kNoiseKey = 29,
};

// What a policy may do at all: layout.Stage.
enum StageBit : int64_t {
  kMayRotate = 1,
  kMayColour = 2,
  kMayGrayscale = 4,
  kMayBlur = 8,
  kMaySolarize = 16,
  kMayNoise = 32,
  kMayDiffColour = 64,
  kMayTranslate = 128,
  kMayErase = 256,
};

struct Box {
  int64_t top = 0, left = 0, height = 0, width = 0;
};

enum class Op : uint8_t {
  kBrightness,
  kContrast,
  kSaturation,
  kHue,
  kGrayscale,
  kSolarize,
  kNoise,
  kDiffBrightness,
  kDiffSaturation,
  kDiffContrast,
};

struct Step {
  Op op = Op::kBrightness;
  float factor = 0;
};

// What lies between two runs of pointwise steps: something that needs more of the image than the
// pixel itself.
enum class Entry : uint8_t {
  kResize,  // crop, resize and flips: what every program begins with
  kRotate,
  kLumaMean,  // for contrast, which then is the first step
  kBlur,
  kOverallMean,  // for DiffAugment's contrast
};

struct Segment {
  Entry entry = Entry::kResize;
  int count = 0;
  Step steps[10];
};

struct Program {
  Box crop;
  bool horizontal_flip = false, vertical_flip = false;
  float rotation = 0, blur_sigma = 0;
  uint64_t noise_seed = 0;
  int64_t down = 0, right = 0;
  Box erased;
  int count = 0;
  Segment segments[5];
};

// Whether the gradient of a step depends on the step's input.
SSLK_HOST_DEVICE inline bool needs_input(Op op) {
  return op != Op::kGrayscale && op != Op::kDiffBrightness && op != Op::kDiffSaturation &&
         op != Op::kDiffContrast;
}

// How many steps of a segment there are up to the last whose gradient depends on its input.
SSLK_HOST_DEVICE inline int steps_that_need_input(const Segment& segment) {
  int count = segment.count;
  while (count > 0 && !needs_input(segment.steps[count - 1].op)) --count;
  return count;
}
SSLK_HOST_DEVICE inline bool needs_input(const Segment& segment) {
  return steps_that_need_input(segment) > 0;
}

// What a row is read for.
struct Frame {
  int64_t channels, height, width;  // of the images
  int64_t view_height, view_width;
  int64_t stages;
};

// Whether a segment changes the pixels where they are, only with a number that it waited for.
SSLK_HOST_DEVICE inline bool uses_mean(Entry entry) {
  return entry == Entry::kLumaMean || entry == Entry::kOverallMean;
}

// How many values the mean is one of.
SSLK_HOST_DEVICE inline double values_in_mean(Entry entry, const Frame& frame) {
  const double pixels = double(frame.view_height) * double(frame.view_width);
  const bool luma = entry == Entry::kLumaMean && frame.channels == 3;
  return luma ? pixels : pixels * double(frame.channels);
}

}  // namespace sslk::augment
