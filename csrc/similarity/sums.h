// Sums of many numbers, always in the same order. Functions return a cudaError_t.
#pragma once

#include "problem.h"

namespace sslk::device {

// A factor of a result is one number on the device, or null for 1.

// out [count] of `dtype` (or float32) = factor times the sums over the lines of parts [lines,
// count].
int add_lines(const float* parts, int64_t lines, int64_t count, const float* factor, Dtype dtype,
              void* out, void* stream);

// out = factor sum_i a_i b_i; null for b: sum_i a_i.
int add_all(const float* a, const float* b, int64_t count, const float* factor, float* out,
            void* stream);

// Vectors; those that are not given have no elements.
struct Vectors {
  struct {
    const float* values;
    int64_t count;
  } each[3];
};

// unit [2]: the power of two of which the largest |x_i| of all is 1024 to 2048 times, 1 where all
// are zero; and 1 / it.
int find_unit(const Vectors& x, float* unit, void* stream);

}  // namespace sslk::device
