// Gradients of the log-sum-exps: a block owns 64 rows, computes their logits against its share of
// the columns once more, tile by tile, and multiplies the gradient of a tile, which stays in
// registers, with the columns. The rows are queries for dq, keys for dk, and both where the keys
// are the queries. No two blocks add to one place: the result is the same on every run.
#include <algorithm>

#include "device_gradient.h"
#include "sums.h"

namespace sslk::device {
namespace {

constexpr uint32_t kRows = 64;
constexpr uint32_t kChunksOfSlice = 4;  // 256 features: a gradient that fits into the registers

// Blocks that share rows have a line each. All may be null.
struct Results {
  void* gradient;       // of the rows, [rows, features], scaled; null with several lines
  float* gradient_sum;  // [lines, rows, features], not scaled
  float* bias_sum;      // [lines, rows]: of G over the columns
  float* product_sum;   // [lines, blocks of rows]: of G_ij <q_i, k_j>
};

// ---- The kernel ---------------------------------------------------------------------------------

// Gradients of a lane's two rows: 8 features in each [8][4], as the tensor cores leave them.
struct RowGradients {
  float of[kChunksOfSlice][kChunk / 8][4];

  template <class T>
  __device__ __forceinline__ void store(const Results& out, uint32_t line, const Matrix& x,
                                        uint32_t first_row, uint32_t first_feature,
                                        float factor) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t row = first_row + tile_row<1>(h);
      if (row >= x.rows) continue;
#pragma unroll
      for (int i = 0; i < int(kChunksOfSlice) * kChunk / 8 * 2; ++i) {
        const int chunk = i / 16, c = i % 16;
        const uint32_t feature = first_feature + chunk * kChunk + tile_column(c);
        if (feature >= x.features) continue;
        const float value = of[chunk][c / 2][2 * h + c % 2];
        const int64_t at = int64_t(row) * x.features + feature;
        if (out.gradient) {
          static_cast<T*>(out.gradient)[at] = Format<T>::rounded(value * factor);
        } else {
          out.gradient_sum[int64_t(line) * x.rows * x.features + at] = value;
        }
      }
    }
  }
};

template <class T, Side kSide>
__global__ void __launch_bounds__(kThreads, 2)
    add_gradients(const __grid_constant__ Problem p, const __grid_constant__ Upstream upstream,
                  uint32_t tiles_each, const __grid_constant__ Results out) {
  const Matrix& x = kSide == Side::kKeys ? p.k : p.q;
  const Matrix& y = kSide == Side::kQueries ? p.k : p.q;
  const uint32_t line = blockIdx.z, first_tile = line * tiles_each;
  const uint32_t tiles = min(tiles_each, tiles_of(y.rows) - first_tile);
  const uint32_t first_row = blockIdx.x * kRows, first_chunk = blockIdx.y * kChunksOfSlice;
  const bool wanted = out.gradient || out.gradient_sum;
  const uint32_t chunks = wanted ? min(kChunksOfSlice, x.chunks() - first_chunk) : 0;
  ChunkStream<T, 1> stream(dynamic_shared<uint16_t>(), x, y, first_row, first_tile * kColumns,
                           tiles, first_chunk, chunks);
  LogitGradient<kSide> logits(p, upstream, first_row);
  RowGradients sums = {};
  for (uint32_t i = 0; i < tiles; ++i) {
    Tile<1> tile;
    stream.multiply_chunks(tile);
    logits.replace(tile, (first_tile + i) * kColumns);
    uint32_t rounded[kColumns / 16][4];
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float (&pairs)[4] = tile.of[0][2 * k + j / 2];
        rounded[k][j] = Format<T>::packed(pairs[j % 2 * 2], pairs[j % 2 * 2 + 1]);
      }
    }
#pragma unroll 1
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
      stream.advance();
      const uint32_t width = x.features - (first_chunk + chunk) * kChunk;
      // Which registers these are must be known when the kernel is compiled.
#pragma unroll
      for (uint32_t c = 0; c < kChunksOfSlice; ++c) {
        if (c == chunk) stream.add_again(sums.of[c], rounded, width);
      }
    }
  }
  if (wanted) {
    const float factor = *p.scale * (upstream.unit ? *upstream.unit : 1);
    sums.template store<T>(out, line, x, first_row, first_chunk * kChunk, factor);
  }
  if (blockIdx.y != 0) return;  // every slice has the same sums over features
  if (out.bias_sum) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float sum = logits.bias_sum[h];
      sum += __shfl_xor_sync(0xffffffff, sum, 1);
      sum += __shfl_xor_sync(0xffffffff, sum, 2);
      const uint32_t row = first_row + tile_row<1>(h);
      if (threadIdx.x % 4 == 0 && row < x.rows) out.bias_sum[int64_t(line) * x.rows + row] = sum;
    }
  }
  if (out.product_sum) {
    // Where X was: after its last chunk came a barrier, with the first chunk of Y again.
    const float sum = block_sum(logits.product_sum, dynamic_shared<float>());
    if (threadIdx.x == 0) out.product_sum[int64_t(line) * gridDim.x + blockIdx.x] = sum;
  }
}

// ---- Launch -------------------------------------------------------------------------------------

// The blocks that own the rows of one side.
struct Pass {
  int64_t rows, features;
  int64_t blocks, slices, lines, tiles_each;

  Pass(int64_t rows_, int64_t others, int64_t features_) : rows(rows_), features(features_) {
    constexpr int64_t kBlocks = 512, kFewestTiles = 4;  // a wave or more on any GPU
    const int64_t tiles = divided_up(others, kColumns);
    blocks = divided_up(rows, kRows);
    slices = divided_up(features, kChunksOfSlice * kChunk);
    tiles_each = std::max(kFewestTiles, divided_up(tiles * blocks * slices, kBlocks));
    lines = std::max<int64_t>(1, divided_up(tiles, tiles_each));
  }
  int64_t gradient_sums() const { return lines > 1 ? lines * rows * features : 0; }
};

struct Workspace {
  Pass of_queries, of_keys;
  int64_t product_sums, bias_sums, gradient_sums;

  explicit Workspace(const DeviceLogits& call)
      : of_queries(call.m, call.n, call.d),
        of_keys(call.n, call.m, call.d),
        product_sums(of_queries.lines * of_queries.blocks),
        bias_sums(call.bias ? of_keys.lines * call.n : 0),
        gradient_sums(std::max(of_queries.gradient_sums(), of_keys.gradient_sums())) {}

  int64_t floats() const { return 2 + product_sums + bias_sums + gradient_sums; }
};

template <class T>
cudaError_t launch(Side side, const Problem& p, const Upstream& upstream, const Pass& pass,
                   const Results& out, void* stream) {
  if (pass.blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(pass.blocks), unsigned(pass.slices), unsigned(pass.lines));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = ChunkStream<T, 1>::kSharedBytes;
  config.stream = static_cast<cudaStream_t>(stream);
  const auto kernel = side == Side::kQueries ? add_gradients<T, Side::kQueries>
                      : side == Side::kKeys  ? add_gradients<T, Side::kKeys>
                                             : add_gradients<T, Side::kBoth>;
  return cudaLaunchKernelEx(&config, kernel, p, upstream, uint32_t(pass.tiles_each), out);
}

// The gradient of one side's rows, and its sums as far as `out` has room for them.
int run_pass(Side side, const DeviceLogits& call, const Problem& p, const Upstream& upstream,
             const Pass& pass, void* gradient, float* gradient_sums, Results out, void* stream) {
  if (gradient && pass.lines > 1) out.gradient_sum = gradient_sums;
  if (gradient && pass.lines == 1) out.gradient = gradient;
  if (!gradient && !out.bias_sum && !out.product_sum) return cudaSuccess;
  const int error = call.dtype == Dtype::kBFloat16
                        ? launch<__nv_bfloat16>(side, p, upstream, pass, out, stream)
                        : launch<__half>(side, p, upstream, pass, out, stream);
  if (error || !out.gradient_sum) return error;
  return add_lines(out.gradient_sum, pass.lines, pass.rows * pass.features,
                   {p.scale, upstream.unit}, call.dtype, gradient, stream);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_logsumexp_gradients_workspace(const sslk::DeviceLogits* problem) {
  return sslk::device::Workspace(*problem).floats();
}

extern "C" int sslk_cuda_logsumexp_gradients(const sslk::DeviceLogits* problem, const float* grad,
                                             const float* lse, const sslk::DeviceGradients* out,
                                             float* workspace, void* stream) {
  using namespace sslk::device;
  Problem p;
  if (!make_problem(*problem, p)) return cudaErrorInvalidValue;
  const Workspace needed(*problem);
  float* const unit = workspace;
  float* const product_sums = unit + 2;
  float* const bias_sums = product_sums + needed.product_sums;
  float* const gradient_sums = bias_sums + needed.bias_sums;
  const bool narrow_range = problem->dtype == sslk::Dtype::kFloat16;
  const Upstream upstream = {grad, lse, narrow_range ? unit : nullptr};
  if (narrow_range) {
    if (const int error = find_unit(grad, problem->m, unit, stream)) return error;
  }
  Results of_queries = {}, of_keys = {};
  of_queries.product_sum = product_sums;
  Results& with_bias = problem->k ? of_keys : of_queries;
  with_bias.bias_sum = out->dbias ? bias_sums : nullptr;
  const Side side = problem->k ? Side::kQueries : Side::kBoth;
  if (const int error = run_pass(side, *problem, p, upstream, needed.of_queries, out->dq,
                                 gradient_sums, of_queries, stream)) {
    return error;
  }
  if (problem->k) {
    if (const int error = run_pass(Side::kKeys, *problem, p, upstream, needed.of_keys, out->dk,
                                   gradient_sums, of_keys, stream)) {
      return error;
    }
  }
  if (out->dbias) {
    if (const int error =
            add_lines(bias_sums, needed.of_keys.lines, problem->n, {upstream.unit, nullptr},
                      sslk::Dtype::kFloat32, out->dbias, stream)) {
      return error;
    }
  }
  return add_all(product_sums, nullptr, needed.product_sums, upstream.unit, out->dscale, stream);
}
