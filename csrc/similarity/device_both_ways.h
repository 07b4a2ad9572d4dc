// Sums of the exponentials of a tile over its rows and over its columns, from one exponential for
// each pair.
#pragma once

#include "device_logits.h"

namespace sslk::device {

constexpr int kTallTiles = 2;
constexpr uint32_t kTallRows = 64 * kTallTiles;
using TallTile = Tile<kTallTiles>;

// Of the columns of a tile, by each warp for its rows.
using ColumnSums = ExponentialSum[kThreads / kWarp][kColumns];

// Below it a sum, taken relative to the largest logit that the warp has, may have lost terms.
constexpr float kSmallestSum = 0x1p-60f;

// Of the first 2 kKept sums of a lane the half that is its own, with what another lane has of it.
template <int kKept>
__device__ __forceinline__ void keep_half(float (&sums)[16]) {
  const int bit = 2 * kKept;
  const bool upper = threadIdx.x & bit;
#pragma unroll
  for (int c = 0; c < kKept; ++c) {
    const float low = sums[c], high = sums[c + kKept];
    sums[c] = (upper ? high : low) + __shfl_xor_sync(0xffffffff, upper ? low : high, bit);
  }
}

// Every lane has the sums of its 16 columns over its own rows; afterwards those of columns 2 lane
// and 2 lane + 1 over all rows of the warp, in the first two places.
__device__ __forceinline__ void add_over_rows(float (&sums)[16]) {
  keep_half<8>(sums);
  keep_half<4>(sums);
  keep_half<2>(sums);
}

// Each row and each column by its own maximum.
__device__ __forceinline__ void add_far_apart(TallTile& tile, RowSums<kTallTiles>& rows,
                                              ExponentialSum (&columns)[kColumns]) {
  rows.add(tile);
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int c = 0; c < 16; ++c) {
    ExponentialSum sum;
#pragma unroll
    for (int h = 0; h < 2 * kTallTiles; ++h) sum.add({tile.at(h, c), 1});
    for (int bit = 4; bit < kWarp; bit *= 2) sum.add_across(bit);
    if (lane / 4 == c / 2) columns[tile_column(c)] = sum;
  }
}

// A tile's logits once over its rows, once over its columns. What counts for nothing is -inf.
__device__ __forceinline__ void add_both_ways(TallTile& tile, RowSums<kTallTiles>& rows,
                                              ExponentialSum (&columns)[kColumns],
                                              uint32_t rows_left, uint32_t columns_left) {
  constexpr int kOwn = 2 * kTallTiles;
  float largest = -INFINITY;
  tile.for_each([&](float& logit, int, int) { largest = fmaxf(largest, logit); });
  for (int bit = 1; bit < kWarp; bit *= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, bit));
  }
  const float shift = finite_or_zero(largest);
  float by_row[kOwn] = {}, by_column[16] = {};
  tile.for_each([&](float& logit, int h, int c) {
    const float x = exp2_of(logit - shift);
    by_row[h] += x;
    by_column[c] += x;
  });
  add_over_rows(by_column);
  bool lost = largest == INFINITY;
#pragma unroll
  for (int h = 0; h < kOwn; ++h) {
    float total = by_row[h] + __shfl_xor_sync(0xffffffff, by_row[h], 1);
    total += __shfl_xor_sync(0xffffffff, total, 2);
    lost |= tile_row<kTallTiles>(h) < rows_left && total < kSmallestSum;
  }
  const uint32_t own = threadIdx.x % kWarp * 2;
  lost |= own < columns_left && by_column[0] < kSmallestSum;
  lost |= own + 1 < columns_left && by_column[1] < kSmallestSum;
  if (__any_sync(0xffffffff, lost)) {
    add_far_apart(tile, rows, columns);
    return;
  }
#pragma unroll
  for (int h = 0; h < kOwn; ++h) rows.of[h].add({shift, by_row[h]});
  columns[own] = {shift, by_column[0]};
  columns[own + 1] = {shift, by_column[1]};
}

// log2 of what all warps have of a tile's columns into out [n]; the threads have just left
// add_both_ways, and come back to it after a barrier.
__device__ __forceinline__ void store_columns(const ColumnSums& columns, float* out,
                                              uint32_t first_column, uint32_t n) {
  __syncthreads();
  const uint32_t column = first_column + threadIdx.x;
  if (threadIdx.x < kColumns && column < n) {
    ExponentialSum sum;
    for (const auto& of_warp : columns) sum.add(of_warp[threadIdx.x]);
    out[column] = sum.log2();
  }
}

}  // namespace sslk::device
