// The log-sum-exps of logits over columns and over rows. One exponential serves the sums of its row
// and of its column. Rows come in panels, of which each adds to the sums of columns: what is kept
// for them does not grow with the rows.
#include "device_both_ways.h"
#include "device_pairs.h"
#include "merge.h"
#include "shares.h"

namespace sslk::device {
namespace {

// Of a panel of rows log2 of sums, [lines, m] and [blocks, n], and the pairs' logits [m].
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

// partial [lines, n] is added to sums [n], which begin with the first panel.
__global__ void __launch_bounds__(kThreads)
    add_columns(const float* partial, uint32_t lines, uint32_t n, bool begins, ExponentialSum* sums,
                float* lse) {
  const uint32_t column = blockIdx.x * kThreads + threadIdx.x;
  if (column >= n) return;
  ExponentialSum sum;
  if (!begins) sum = sums[column];
  for (uint32_t i = 0; i < lines; ++i) sum.add({partial[int64_t(i) * n + column], 1});
  sums[column] = sum;
  lse[column] = sum.log2() * kLogOf2;
}

// ---- Launch -------------------------------------------------------------------------------------

constexpr int64_t kPanelBlocks = 64, kPanelRows = kPanelBlocks * kTallRows;

// Where what lies in it, in floats: the sums of columns, then lines of columns and of a panel's
// rows.
struct Workspace {
  int64_t columns, rows, floats;

  explicit Workspace(const DeviceLogits& call) {
    const int64_t m = std::min(call.m, kPanelRows);
    columns = int64_t(sizeof(ExponentialSum) / sizeof(float)) * call.n;
    rows = columns + divided_up(m, kTallRows) * call.n;
    // The last panel, with fewer rows, may have more lines of them.
    floats = rows + Shares::most_blocks(m, call.n, kTallRows, 1) * kTallRows;
  }
};

template <class T>
cudaError_t sum_panel(const Problem& p, uint32_t first, const Shares& shares, const PairSums& out,
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

cudaError_t add_panel(const float* partial, int64_t lines, int64_t n, bool begins, float* sums,
                      float* lse, void* stream) {
  if (n == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(divided_up(n, kThreads)));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, add_columns, partial, uint32_t(lines), uint32_t(n), begins,
                            reinterpret_cast<ExponentialSum*>(sums), lse);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_pairs_workspace(const sslk::DevicePairs* problem) {
  return sslk::device::Workspace(problem->logits).floats;
}

extern "C" int sslk_cuda_pairs(const sslk::DevicePairs* problem, float* row_lse, float* column_lse,
                               float* pair_logit, float* workspace, void* stream) {
  using namespace sslk::device;
  Problem p;
  if (!make_pairs(*problem, p)) return cudaErrorInvalidValue;
  const sslk::DeviceLogits& logits = problem->logits;
  const Workspace needed(logits);
  const bool wide_range = logits.dtype == sslk::Dtype::kBFloat16;
  const auto sum = wide_range ? sum_panel<__nv_bfloat16> : sum_panel<__half>;
  int64_t done = 0;
  do {  // once where there are no rows: columns have sums even so
    const int64_t rows = std::min(kPanelRows, logits.m - done);
    const Shares shares(rows, logits.n, kTallRows);
    const PairSums sums = {workspace + needed.rows, workspace + needed.columns, pair_logit + done};
    if (rows > 0) {
      Problem panel = p;
      panel.q.values += done * logits.d;
      panel.q.rows = uint32_t(rows);
      const uint32_t first = uint32_t(problem->first + done);
      if (const int error = sum(panel, first, shares, sums, stream)) return error;
    }
    if (const int error = merge_lines(sums.rows, rows, shares.lines, 0, row_lse + done, stream)) {
      return error;
    }
    if (const int error = add_panel(sums.columns, shares.blocks, logits.n, done == 0, workspace,
                                    column_lse, stream)) {
      return error;
    }
    done += rows;
  } while (done < logits.m);
  return cudaSuccess;
}
