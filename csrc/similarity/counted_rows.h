// The rows that count, in their order. How many they are the device alone knows: the host does not
// wait for it, and launches as many blocks as any number would take.
#pragma once

#include "device_logits.h"

namespace sslk::device {

constexpr uint32_t kNoRow = ~0u;

struct CountedRows {
  uint32_t* number;    // [m]: the first `count` are rows that count
  uint32_t* position;  // [m]: where a row is among them, or kNoRow
  uint32_t* count;     // one number

  static constexpr int64_t floats(int64_t m) { return 2 * m + 1; }
  static CountedRows in(float* workspace, int64_t m) {
    uint32_t* const words = reinterpret_cast<uint32_t*>(workspace);
    return {words, words + m, words + 2 * m};
  }

  __device__ __forceinline__ GatheredMatrix of(const Matrix& all) const {
    return {{all.values, *count, all.features, all.aligned}, number};
  }
};

// target [m]: -1 in a row that does not count; else it is below n. Returns a cudaError_t.
int number_rows(const int64_t* target, int64_t m, int64_t n, const CountedRows& out, void* stream);

}  // namespace sslk::device
