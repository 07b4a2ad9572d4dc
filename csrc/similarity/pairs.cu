// The softmaxes of logits over columns and over rows. One exponential serves the sums of its row
// and of its column; the gradients take four products.
#include "device_both_ways.h"
#include "device_pairs.h"
#include "device_row_gradients.h"
#include "merge.h"

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

struct Workspace {
  Pass of_queries, of_keys;
  int64_t product_sums, gradient_sums;

  explicit Workspace(const DeviceLogits& call)
      : of_queries(call.m, call.n, call.d),
        of_keys(call.n, call.m, call.d),
        product_sums(of_queries.blocks()),
        gradient_sums(std::max(of_queries.gradient_sums(), of_keys.gradient_sums())) {}

  int64_t floats() const { return 2 + product_sums + gradient_sums; }
};

// dq and dk, and the sums; the softmaxes of rows are those of queries.
template <class T>
int add_both(const DeviceLogits& call, const Problem& p, const PairUpstream& upstream,
             const DeviceGradients& out, float* product_sums, float* gradient_sums, void* stream) {
  const Workspace needed(call);
  if (const int error = run_pass<T, PairGradient>(p, {upstream, product_sums}, needed.of_queries,
                                                  call.dtype, out.dq, gradient_sums, stream)) {
    return error;
  }
  PairUpstream from_keys = upstream;
  std::swap(from_keys.of_rows, from_keys.of_columns);
  from_keys.offset = -upstream.offset;
  return run_pass<T, PairGradient>(transposed(p), {from_keys, nullptr}, needed.of_keys, call.dtype,
                                   out.dk, gradient_sums, stream);
}

bool make_pairs(const DevicePairs& call, Problem& p) {
  return call.first >= 0 && call.first <= call.logits.n - call.logits.m &&
         make_problem(call.logits, p);
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

extern "C" int64_t sslk_cuda_pairs_gradients_workspace(const sslk::DevicePairs* problem) {
  return sslk::device::Workspace(problem->logits).floats();
}

extern "C" int sslk_cuda_pairs_gradients(const sslk::DevicePairs* problem,
                                         const sslk::DevicePairTerms* grad, const float* row_lse,
                                         const float* column_lse, const sslk::DeviceGradients* out,
                                         float* workspace, void* stream) {
  using namespace sslk::device;
  Problem p;
  if (!make_pairs(*problem, p)) return cudaErrorInvalidValue;
  const sslk::DeviceLogits& logits = problem->logits;
  const int64_t sums = Workspace(logits).product_sums;
  float* const product_sums = workspace + 2;
  const bool narrow_range = logits.dtype == sslk::Dtype::kFloat16;
  const float* const unit = narrow_range ? workspace : nullptr;
  if (narrow_range) {
    const Vectors upstream = {
        {{grad->rows, logits.m}, {grad->columns, logits.n}, {grad->pairs, logits.m}}};
    if (const int error = find_unit(upstream, workspace, stream)) return error;
  }
  const PairUpstream upstream = {{grad->rows, row_lse},
                                 {grad->columns, column_lse},
                                 grad->pairs,
                                 unit,
                                 uint32_t(problem->first)};
  const auto add = narrow_range ? add_both<__half> : add_both<__nv_bfloat16>;
  if (const int error = add(logits, p, upstream, *out, product_sums, product_sums + sums, stream)) {
    return error;
  }
  return add_all(product_sums, nullptr, sums, unit, out->dscale, stream);
}
