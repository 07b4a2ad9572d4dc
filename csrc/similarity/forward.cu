// Log-sum-exp of every row: a block owns 128 rows and walks over its share of the columns. Rows
// against themselves meet each pair once: a tile above the diagonal gives sums over its rows and
// over its columns from one exponential for each pair. Partial results are put together in a fixed
// order.
#include <algorithm>

#include "device_logits.h"
#include "shares.h"

namespace sslk::device {
namespace {

constexpr int kRowTiles = 2;
constexpr uint32_t kRows = 64 * kRowTiles;
using RowTile = Tile<kRowTiles>;

// ---- Rows against columns -----------------------------------------------------------------------

// partial [splits, m]: log2 of the sums over `tiles_each` tiles of columns.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    sum_rows(const __grid_constant__ Problem p, uint32_t tiles_each, float* partial) {
  const uint32_t first_row = blockIdx.x * kRows, first_tile = blockIdx.y * tiles_each;
  const uint32_t tiles = min(tiles_each, tiles_of(p.k.rows) - first_tile);
  ChunkStream<T, kRowTiles> stream(dynamic_shared<uint16_t>(), p.q, p.k, first_row,
                                   first_tile * kColumns, tiles);
  const float factor = *p.scale * kLog2OfE;
  RowSums<kRowTiles> sums;
  for (uint32_t i = 0; i < tiles; ++i) {
    RowTile tile;
    stream.multiply_chunks(tile);
    to_logits(tile, p, factor, first_row, (first_tile + i) * kColumns);
    sums.add(tile);
  }
  sums.store(partial + int64_t(blockIdx.y) * p.q.rows, first_row, p.q.rows);
}

// ---- Rows against themselves --------------------------------------------------------------------

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
__device__ __forceinline__ void add_far_apart(RowTile& tile, RowSums<kRowTiles>& rows,
                                              ExponentialSum (&columns)[kColumns]) {
  rows.add(tile);
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int c = 0; c < 16; ++c) {
    ExponentialSum sum;
#pragma unroll
    for (int h = 0; h < 2 * kRowTiles; ++h) sum.add({tile.at(h, c), 1});
    for (int bit = 4; bit < kWarp; bit *= 2) sum.add_across(bit);
    if (lane / 4 == c / 2) columns[tile_column(c)] = sum;
  }
}

// A tile's logits once over its rows, once over its columns.
__device__ __forceinline__ void add_both_ways(RowTile& tile, RowSums<kRowTiles>& rows,
                                              ExponentialSum (&columns)[kColumns],
                                              uint32_t columns_left) {
  constexpr int kOwn = 2 * kRowTiles;
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
    lost |= total < kSmallestSum;
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

// partial [row blocks, m]: what the pairs of a row block with later columns give those columns lies
// in the line of the block; what the block's own rows get, in as many lines after that as it has
// runs of `run` tiles.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    sum_pairs(const __grid_constant__ Problem p, uint32_t run, float* partial) {
  using Stream = ChunkStream<T, kRowTiles>;
  const uint32_t block = blockIdx.y, m = p.q.rows, all_tiles = tiles_of(m);
  const uint32_t first_tile = 2 * block + blockIdx.x * run;
  if (first_tile >= all_tiles) return;
  const uint32_t tiles = min(run, all_tiles - first_tile), first_row = block * kRows;
  uint16_t* const shared = dynamic_shared<uint16_t>();
  ColumnSums& columns = *reinterpret_cast<ColumnSums*>(shared + Stream::kSharedBytes / 2);
  Stream stream(shared, p.q, p.q, first_row, first_tile * kColumns, tiles);
  const float factor = *p.scale * kLog2OfE;
  RowSums<kRowTiles> rows;
  for (uint32_t i = 0; i < tiles; ++i) {
    const uint32_t first_column = (first_tile + i) * kColumns;
    RowTile tile;
    stream.multiply_chunks(tile);
    to_logits(tile, p, factor, first_row, first_column);
    if (first_column < first_row + kRows) {  // on the diagonal: both sides of every pair are here
      rows.add(tile);
      continue;
    }
    add_both_ways(tile, rows, columns[threadIdx.x / kWarp], m - first_column);
    __syncthreads();
    const uint32_t column = first_column + threadIdx.x;
    if (threadIdx.x < kColumns && column < m) {
      ExponentialSum sum;
      for (const auto& of_warp : columns) sum.add(of_warp[threadIdx.x]);
      partial[int64_t(block) * m + column] = sum.log2();
    }
  }
  rows.store(partial + int64_t(block + blockIdx.x) * m, first_row, m);
}

// ---- Both ---------------------------------------------------------------------------------------

// lse [m] from `lines` lines of partial results, or with `run` from those that sum_pairs has
// filled.
__global__ void __launch_bounds__(kThreads)
    merge_rows(const float* partial, uint32_t m, uint32_t lines, uint32_t run, float* lse) {
  const uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= m) return;
  if (run) {
    const uint32_t block = row / kRows, tiles = tiles_of(m) - 2 * block;
    lines = block + (tiles + run - 1) / run;
  }
  ExponentialSum sum;
  for (uint32_t i = 0; i < lines; ++i) sum.add({partial[int64_t(i) * m + row], 1});
  lse[row] = sum.log2() * kLogOf2;
}

struct Plan {
  bool pairs;
  int64_t row_blocks, lines;
  int64_t tiles_each;  // of a block
};

// Whether j is excluded for i just where i is for j.
bool symmetric(const DeviceLogits& call) {
  const auto has = [&](int64_t offset) {
    return std::any_of(call.exclude, call.exclude + call.excluded,
                       [&](int64_t other) { return (other - offset) % call.n == 0; });
  };
  return !call.k && !call.bias &&
         std::all_of(call.exclude, call.exclude + call.excluded,
                     [&](int64_t offset) { return has(-offset); });
}

Plan plan_of(const DeviceLogits& call) {
  constexpr int64_t kBlocks = 512;  // a wave or more on any GPU
  constexpr int64_t kMostInRun = 16, kLargestPartial = int64_t(64) << 20;
  Plan plan = {};
  if (call.m == 0) return plan;
  const Shares shares(call.m, call.n, kRows);
  plan.row_blocks = shares.blocks;
  plan.pairs = symmetric(call) && plan.row_blocks * call.m <= kLargestPartial;
  if (plan.pairs) {
    // With two tiles or more in a run no row has more lines than there are row blocks.
    const int64_t tiles = divided_up(call.n, kColumns);
    plan.tiles_each = std::clamp<int64_t>(tiles * plan.row_blocks / 2 / kBlocks, 2, kMostInRun);
    plan.lines = plan.row_blocks;
  } else {
    plan.tiles_each = shares.tiles_each;
    plan.lines = shares.lines;
  }
  return plan;
}

template <class T>
cudaError_t launch(const Problem& p, const Plan& plan, float* partial, cudaLaunchConfig_t config) {
  using Stream = ChunkStream<T, kRowTiles>;
  config.blockDim = dim3(kThreads);
  if (!plan.pairs) {
    config.gridDim = dim3(unsigned(plan.row_blocks), unsigned(plan.lines));
    config.dynamicSmemBytes = Stream::kSharedBytes;
    return cudaLaunchKernelEx(&config, sum_rows<T>, p, uint32_t(plan.tiles_each), partial);
  }
  config.gridDim =
      dim3(unsigned(divided_up(p.q.rows, kColumns * plan.tiles_each)), unsigned(plan.row_blocks));
  config.dynamicSmemBytes = Stream::kSharedBytes + sizeof(ColumnSums);
  const cudaError_t error = cudaFuncSetAttribute(
      sum_pairs<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(config.dynamicSmemBytes));
  if (error != cudaSuccess) return error;
  return cudaLaunchKernelEx(&config, sum_pairs<T>, p, uint32_t(plan.tiles_each), partial);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_logsumexp_workspace(const sslk::DeviceLogits* problem) {
  return sslk::device::plan_of(*problem).lines * problem->m;
}

extern "C" int sslk_cuda_logsumexp(const sslk::DeviceLogits* problem, float* lse, float* workspace,
                                   void* stream) {
  using namespace sslk::device;
  Problem p;
  if (!make_problem(*problem, p)) return cudaErrorInvalidValue;
  if (p.q.rows == 0) return cudaSuccess;
  const Plan plan = plan_of(*problem);
  cudaLaunchConfig_t config = {};
  config.stream = static_cast<cudaStream_t>(stream);
  const bool wide_range = problem->dtype == sslk::Dtype::kBFloat16;
  const cudaError_t error = wide_range ? launch<__nv_bfloat16>(p, plan, workspace, config)
                                       : launch<__half>(p, plan, workspace, config);
  if (error != cudaSuccess) return error;
  config.gridDim = dim3(unsigned(divided_up(p.q.rows, kThreads)));
  config.blockDim = dim3(kThreads);
  return cudaLaunchKernelEx(&config, merge_rows, workspace, p.q.rows, uint32_t(plan.lines),
                            uint32_t(plan.pairs ? plan.tiles_each : 0), lse);
}
