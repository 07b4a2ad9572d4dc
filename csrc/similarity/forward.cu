// Log-sum-exp of every row: a block owns 128 rows and walks over its share of the columns. Rows
// against themselves meet each pair once: a tile above the diagonal gives sums over its rows and
// over its columns from one exponential for each pair. Partial results are put together in a fixed
// order.
#include <algorithm>

#include "device_both_ways.h"
#include "merge.h"
#include "shares.h"

namespace sslk::device {
namespace {

constexpr uint32_t kRows = kTallRows;

// ---- Rows against columns -----------------------------------------------------------------------

// partial [splits, m]: log2 of the sums over `tiles_each` tiles of columns.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    sum_rows(const __grid_constant__ Problem p, uint32_t tiles_each, float* partial) {
  const uint32_t first_row = blockIdx.x * kRows, first_tile = blockIdx.y * tiles_each;
  const uint32_t tiles = min(tiles_each, tiles_of(p.k.rows) - first_tile);
  ChunkStream<T, kTallTiles> stream(dynamic_shared<uint16_t>(), p.q, p.k, first_row,
                                    first_tile * kColumns, tiles);
  const float factor = *p.scale * kLog2OfE;
  RowSums<kTallTiles> sums;
  for (uint32_t i = 0; i < tiles; ++i) {
    TallTile tile;
    stream.multiply_chunks(tile);
    to_logits(tile, p, factor, first_row, (first_tile + i) * kColumns);
    sums.add(tile);
  }
  sums.store(partial + int64_t(blockIdx.y) * p.q.rows, first_row, p.q.rows);
}

// ---- Rows against themselves --------------------------------------------------------------------

// partial [row blocks, m]: what the pairs of a row block with later columns give those columns lies
// in the line of the block; what the block's own rows get, in as many lines after that as it has
// runs of `run` tiles.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    sum_pairs(const __grid_constant__ Problem p, uint32_t run, float* partial) {
  using Stream = ChunkStream<T, kTallTiles>;
  const uint32_t block = blockIdx.y, m = p.q.rows, all_tiles = tiles_of(m);
  const uint32_t first_tile = 2 * block + blockIdx.x * run;
  if (first_tile >= all_tiles) return;
  const uint32_t tiles = min(run, all_tiles - first_tile), first_row = block * kRows;
  uint16_t* const shared = dynamic_shared<uint16_t>();
  ColumnSums& columns = *reinterpret_cast<ColumnSums*>(shared + Stream::kSharedBytes / 2);
  Stream stream(shared, p.q, p.q, first_row, first_tile * kColumns, tiles);
  const float factor = *p.scale * kLog2OfE;
  RowSums<kTallTiles> rows;
  for (uint32_t i = 0; i < tiles; ++i) {
    const uint32_t first_column = (first_tile + i) * kColumns;
    TallTile tile;
    stream.multiply_chunks(tile);
    to_logits(tile, p, factor, first_row, first_column);
    if (first_column < first_row + kRows) {  // on the diagonal: both sides of every pair are here
      rows.add(tile);
      continue;
    }
    add_both_ways(tile, rows, columns[threadIdx.x / kWarp], kRows, m - first_column);
    store_columns(columns, partial + int64_t(block) * m, first_column, m);
  }
  rows.store(partial + int64_t(block + blockIdx.x) * m, first_row, m);
}

// ---- Launch -------------------------------------------------------------------------------------

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
  using Stream = ChunkStream<T, kTallTiles>;
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
  return merge_lines(workspace, problem->m, plan.lines, plan.pairs ? plan.tiles_each : 0, lse,
                     stream);
}
