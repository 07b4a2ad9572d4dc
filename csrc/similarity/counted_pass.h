// How blocks share a matrix of pairs of which the device alone knows how many rows count.
#pragma once

#include <algorithm>

#include "device_row_gradients.h"

namespace sslk::device {

// The blocks that own the rows of one side: how many are at work follows from how many rows count.
struct CountedPass {
  const uint32_t* count;
  int64_t m, n, features;
  Side side;

  SSLK_HOST_DEVICE int64_t slices() const { return slices_of(features); }
  __device__ __forceinline__ Shares shares() const {
    const int64_t counted = *count;
    return side == Side::kQueries ? Shares(counted, n, kGradientRows, slices())
                                  : Shares(n, counted, kGradientRows, slices());
  }
  // Of one slice.
  int64_t most_blocks() const {
    if (side == Side::kQueries) return Shares::most_blocks(m, n, kGradientRows, slices());
    return divided_up(n, kGradientRows) * most_lines();
  }
  int64_t most_lines() const {
    const int64_t rows = side == Side::kQueries ? std::min<int64_t>(m, 1) : n;
    return Shares::most_lines(rows, side == Side::kQueries ? n : m, kGradientRows, slices());
  }
  // Sums are kept where several blocks have the same rows.
  int64_t gradient_sums() const {
    if (most_lines() == 1) return 0;
    if (side == Side::kKeys) return most_lines() * n * features;
    // Two lines or more have at most so many blocks: one that is full has all columns.
    const int64_t blocks = std::min(most_blocks(), 2 * Shares::kBlocks / slices());
    return blocks * kGradientRows * features;
  }
};

}  // namespace sslk::device
