// What the gradient of a log-sum-exp owes to its upstream gradient.
#pragma once

#include "device_logits.h"

namespace sslk::device {

// A log-sum-exp in base 2. Where no key counts every exponent is to be -inf, and not NaN.
__device__ __forceinline__ float shift_of(float lse) {
  return lse == -INFINITY ? 0 : lse * kLog2OfE;
}

// The gradient of a logit is weight 2^(logit - shift), in base 2.
struct Softmax {
  float shift, weight;
};

// Of every row, over its columns.
struct Softmaxes {
  const float *grad, *lse;

  // Past the end it counts for nothing. unit: see find_unit; null: 1.
  __device__ __forceinline__ Softmax at(uint32_t i, uint32_t rows, const float* unit) const {
    if (i >= rows) return {INFINITY, 0};
    return {shift_of(lse[i]), grad[i] * (unit ? unit[1] : 1)};
  }
};

}  // namespace sslk::device
