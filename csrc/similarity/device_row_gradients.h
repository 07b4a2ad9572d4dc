// Gradients of rows, whatever the loss: a block owns 64 rows, computes their products with its
// share of the columns once more, tile by tile, and multiplies the gradient of a tile's logits,
// which stays in registers, with the columns. No two blocks add to one place: the result is the
// same on every run.
#pragma once

#include "device_logits.h"
#include "shares.h"
#include "sums.h"

namespace sslk::device {

constexpr uint32_t kGradientRows = 64;
constexpr uint32_t kChunksOfSlice = 4;  // 256 features: a gradient that fits into the registers

// Of a row's features; one, too, of none, which are refused later.
SSLK_HOST_DEVICE constexpr int64_t slices_of(int64_t features) {
  return features > 0 ? divided_up(features, kChunksOfSlice * kChunk) : 1;
}

// Where it goes; both null: nowhere.
struct RowResults {
  void* gradient;        // [rows, features], rounded
  float* gradient_sums;  // [lines, rows, features], or null
};

// Gradients of a lane's two rows: 8 features in each [8][4], as the tensor cores leave them.
struct RowGradients {
  float of[kChunksOfSlice][kChunk / 8][4];

  template <class T, class X>
  __device__ __forceinline__ void store(const RowResults& out, uint32_t line, const X& x,
                                        uint32_t first_row, uint32_t first_feature,
                                        float factor) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t row = first_row + tile_row<1>(h);
      if (row >= x.rows) continue;
      const int64_t start = x.start(row);
#pragma unroll
      for (int i = 0; i < int(kChunksOfSlice) * kChunk / 8 * 2; ++i) {
        const int chunk = i / 16, c = i % 16;
        const uint32_t feature = first_feature + chunk * kChunk + tile_column(c);
        if (feature >= x.features) continue;
        const float value = of[chunk][c / 2][2 * h + c % 2] * factor;
        if (out.gradient) {
          static_cast<T*>(out.gradient)[start + feature] = Format<T>::rounded(value);
        } else {
          const int64_t at = int64_t(row) * x.features + feature;
          out.gradient_sums[int64_t(line) * x.rows * x.features + at] = value;
        }
      }
    }
  }
};

// What each lane has summed of its two rows, times factor, becomes the sums of these in out [rows].
__device__ __forceinline__ void store_row_sums(const float (&of_lane)[2], float factor,
                                               uint32_t first_row, uint32_t rows, float* out) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float sum = of_lane[h];
    sum += __shfl_xor_sync(0xffffffff, sum, 1);
    sum += __shfl_xor_sync(0xffffffff, sum, 2);
    const uint32_t row = first_row + tile_row<1>(h);
    if (threadIdx.x % 4 == 0 && row < rows) out[row] = sum * factor;
  }
}

// The gradients of rows of x from `first_row` on, from `tiles` tiles of y. What the loss is,
// `weights` says:
//   replace(tile, first_column)  makes of products the gradients of their logits;
//   unit()                       what these are multiples of;
//   store(line, shared)          leaves what it has summed itself, in blocks of the first slice.
template <class T, class Weights, class X, class Y>
__device__ __forceinline__ void add_block_gradients(Weights& weights, const float* scale,
                                                    const X& x, const Y& y, uint32_t first_row,
                                                    uint32_t line, uint32_t first_tile,
                                                    uint32_t tiles, const RowResults& out) {
  const uint32_t first_chunk = blockIdx.y * kChunksOfSlice;
  const bool wanted = out.gradient || out.gradient_sums;
  const uint32_t chunks = wanted ? min(kChunksOfSlice, x.chunks() - first_chunk) : 0;
  ChunkStream<T, 1, X, Y> stream(dynamic_shared<uint16_t>(), x, y, first_row, first_tile * kColumns,
                                 tiles, first_chunk, chunks);
  RowGradients sums = {};
  for (uint32_t i = 0; i < tiles; ++i) {
    Tile<1> tile;
    stream.multiply_chunks(tile);
    weights.replace(tile, (first_tile + i) * kColumns);
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
    sums.template store<T>(out, line, x, first_row, first_chunk * kChunk, *scale * weights.unit());
  }
  if (blockIdx.y != 0) return;  // every slice has the same sums over features
  // Where X was: after its last chunk came a barrier, with the first chunk of Y again.
  weights.store(line, dynamic_shared<float>());
}

// Where the host knows how many rows there are. Beside that, Weights has
//   kSide      what the rows are;
//   Arguments  what of the loss travels with the launch.
template <class T, class Weights>
__global__ void __launch_bounds__(kThreads, 2)
    add_gradients(const __grid_constant__ Problem p,
                  const __grid_constant__ typename Weights::Arguments arguments,
                  uint32_t tiles_each, const __grid_constant__ RowResults out) {
  const Matrix& x = Weights::kSide == Side::kKeys ? p.k : p.q;
  const Matrix& y = Weights::kSide == Side::kQueries ? p.k : p.q;
  const uint32_t line = blockIdx.z, first_tile = line * tiles_each;
  const uint32_t tiles = min(tiles_each, tiles_of(y.rows) - first_tile);
  const uint32_t first_row = blockIdx.x * kGradientRows;
  Weights weights(p, arguments, first_row);
  add_block_gradients<T>(weights, p.scale, x, y, first_row, line, first_tile, tiles, out);
}

// ---- Launch -------------------------------------------------------------------------------------

// The blocks that own the rows of one side.
struct Pass {
  int64_t rows, features, slices;
  Shares shares;

  Pass(int64_t rows_, int64_t others, int64_t features_)
      : rows(rows_),
        features(features_),
        slices(slices_of(features)),
        shares(rows, others, kGradientRows, slices) {}
  // Blocks of one slice of features.
  int64_t blocks() const { return shares.lines * shares.blocks; }
  int64_t gradient_sums() const { return shares.lines > 1 ? shares.lines * rows * features : 0; }
};

// The passes of queries and of keys, one after the other.
struct BothPasses {
  Pass of_queries, of_keys;
  int64_t gradient_sums;  // floats that serve both

  explicit BothPasses(const DeviceLogits& call)
      : of_queries(call.m, call.n, call.d),
        of_keys(call.n, call.m, call.d),
        gradient_sums(std::max(of_queries.gradient_sums(), of_keys.gradient_sums())) {}
};

// gradient [rows, features] of T or of float32 as `dtype` says; null for what Weights sums alone.
// gradient_sums has the floats that the pass wants.
template <class T, class Weights>
int run_pass(const Problem& p, const typename Weights::Arguments& arguments, const Pass& pass,
             Dtype dtype, void* gradient, float* gradient_sums, void* stream) {
  const Shares& shares = pass.shares;
  if (shares.blocks == 0) return cudaSuccess;
  const bool in_parts = gradient && shares.lines > 1;
  RowResults out = {};
  if (in_parts) {
    out.gradient_sums = gradient_sums;
  } else if (dtype == Dtype::kFloat32) {
    out.gradient_sums = static_cast<float*>(gradient);  // one line is all there is
  } else {
    out.gradient = gradient;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(shares.blocks), unsigned(pass.slices), unsigned(shares.lines));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = ChunkStream<T, 1>::kSharedBytes;
  config.stream = static_cast<cudaStream_t>(stream);
  const int error = cudaLaunchKernelEx(&config, add_gradients<T, Weights>, p, arguments,
                                       uint32_t(shares.tiles_each), out);
  if (error || !in_parts) return error;
  return add_lines(gradient_sums, shares.lines, pass.rows * pass.features, nullptr, dtype, gradient,
                   stream);
}

}  // namespace sslk::device
