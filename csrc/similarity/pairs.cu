// The log-sum-exps of logits over columns and over rows. One exponential serves the sums of its row
// and of its column.
#include "device_both_ways.h"
#include "device_pairs.h"
#include "merge.h"
#include "shares.h"

namespace sslk::device {
namespace {

// log2 of sums, [lines, m] and [blocks, n], and the pairs' logits [m].
struct PairSums {
  float *rows, *columns, *pair_logit;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    sum_both_ways(const __grid_constant__ Problem p, uint32_t first, uint32_t tiles_each,
                  const __grid_constant__ PairSums out) {
  using Stream = ChunkStream<T, kTallTiles>;
  const uint32_t first_row = blockIdx.x * kTallRows, first_tile = blockIdx.y * tiles_each;
  const uint32_t tiles = min(tiles_each, tiles_of(p.k.rows) - first_tile);
  uint16_t* const shared = dynamic_shared<uint16_t>();
  ColumnSums& columns = *reinterpret_cast<ColumnSums*>(shared + Stream::kSharedBytes / 2);
  Stream stream(shared, p.q, p.k, first_row, first_tile * kColumns, tiles);
  const float factor = *p.scale * kLog2OfE;
  RowSums<kTallTiles> rows;
  for (uint32_t i = 0; i < tiles; ++i) {
    const uint32_t first_column = (first_tile + i) * kColumns;
    TallTile tile;
    stream.multiply_chunks(tile);
    to_logits(tile, p, factor, first_row, first_column);
    if (first_row + kTallRows > p.q.rows) {
      tile.for_each([&](float& logit, int h, int) {
        if (first_row + tile_row<kTallTiles>(h) >= p.q.rows) logit = -INFINITY;
      });
    }
    if (may_pair<kTallTiles>(first_row, first_column, first)) {
      tile.for_each([&](float& logit, int h, int c) {
        const uint32_t row = first_row + tile_row<kTallTiles>(h);
        const bool pair = first_column + tile_column(c) - row == first;
        if (pair && row < p.q.rows) out.pair_logit[row] = logit * kLogOf2;
      });
    }
    add_both_ways(tile, rows, columns[threadIdx.x / kWarp], p.q.rows - first_row,
                  p.k.rows - first_column);
    store_columns(columns, out.columns + int64_t(blockIdx.x) * p.k.rows, first_column, p.k.rows);
  }
  rows.store(out.rows + int64_t(blockIdx.y) * p.q.rows, first_row, p.q.rows);
}

Shares shares_of(const DeviceLogits& call) { return {call.m, call.n, kTallRows}; }

template <class T>
cudaError_t sum_all(const Problem& p, uint32_t first, const Shares& shares, const PairSums& out,
                    void* stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(shares.blocks), unsigned(shares.lines));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = ChunkStream<T, kTallTiles>::kSharedBytes + sizeof(ColumnSums);
  config.stream = static_cast<cudaStream_t>(stream);
  const cudaError_t error = cudaFuncSetAttribute(
      sum_both_ways<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(config.dynamicSmemBytes));
  if (error != cudaSuccess) return error;
  return cudaLaunchKernelEx(&config, sum_both_ways<T>, p, first, uint32_t(shares.tiles_each), out);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_pairs_workspace(const sslk::DevicePairs* problem) {
  const auto& logits = problem->logits;
  const auto shares = sslk::device::shares_of(logits);
  return shares.lines * logits.m + shares.blocks * logits.n;
}

extern "C" int sslk_cuda_pairs(const sslk::DevicePairs* problem, float* row_lse, float* column_lse,
                               float* pair_logit, float* workspace, void* stream) {
  using namespace sslk::device;
  Problem p;
  if (!make_pairs(*problem, p)) return cudaErrorInvalidValue;
  const int64_t m = problem->logits.m, n = problem->logits.n;
  const Shares shares = shares_of(problem->logits);
  const PairSums sums = {workspace, workspace + shares.lines * m, pair_logit};
  if (m > 0) {
    const bool wide_range = problem->logits.dtype == sslk::Dtype::kBFloat16;
    const auto sum = wide_range ? sum_all<__nv_bfloat16> : sum_all<__half>;
    if (const int error = sum(p, uint32_t(problem->first), shares, sums, stream)) return error;
  }
  if (const int error = merge_lines(sums.rows, m, shares.lines, 0, row_lse, stream)) return error;
  return merge_lines(sums.columns, n, shares.blocks, 0, column_lse, stream);
}
