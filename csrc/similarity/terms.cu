// What a cross entropy over columns needs of each row that counts: a block owns 128 of them and
// walks over its share of the columns. Partial results are put together in a fixed order.
#include "device_both_ways.h"
#include "device_terms.h"
#include "shares.h"

namespace sslk::device {
namespace {

// What a lane has of its rows: in base 2, and beside the sums of exponentials.
class LaneTerms {
 public:
  __device__ __forceinline__ LaneTerms(const Terms& terms, const GatheredMatrix& q,
                                       uint32_t first_row)
      : terms_(terms), first_row_(first_row), rows_(q.rows) {
#pragma unroll
    for (int h = 0; h < kOwn; ++h) {
      const uint32_t row = first_row + tile_row<kTallTiles>(h);
      target_[h] = row < q.rows ? uint32_t(terms.target[q.number[row]]) : kNoRow;
    }
  }

  // The tile of logits is capped on the way.
  __device__ __forceinline__ void add(TallTile& tile, uint32_t first_column, uint32_t columns) {
    if (terms_.cap > 0) {
      tile.for_each([&](float& logit, int, int) { logit = terms_.cap * terms_.tangent(logit); });
    }
    const bool ends = first_column + kColumns > columns;
    const auto past_the_end = [&](float value) {
      tile.for_each([&](float& logit, int, int c) {
        if (first_column + tile_column(c) >= columns) logit = value;
      });
    };
    if (terms_.column_weight) {
      if (ends) past_the_end(0);
      float weight[16];
#pragma unroll
      for (int c = 0; c < 16; ++c) {
        weight[c] = terms_.column_weight[column_within(first_column, c, columns)];
      }
      tile.for_each([&](float& logit, int h, int c) {
        weighted_sum_[h] = __fmaf_rn(logit, weight[c], weighted_sum_[h]);
      });
    }
    // Most tiles have none of a lane's targets.
    bool has_target = false;
#pragma unroll
    for (int h = 0; h < kOwn; ++h) has_target |= target_[h] - first_column < kColumns;
    if (has_target) {
      tile.for_each([&](float& logit, int h, int c) {
        if (first_column + tile_column(c) == target_[h]) target_logit_[h] = logit;
      });
    }
    if (ends) past_the_end(-INFINITY);
    sums_.add(tile);
  }

  // Of all lanes, into out [rows]: the log of the sum, target logit, weighted sum and maximum.
  __device__ __forceinline__ void store(float4* out) {
#pragma unroll
    for (int h = 0; h < kOwn; ++h) {
      ExponentialSum& sum = sums_.of[h];
      for (int bit = 1; bit < 4; bit *= 2) {
        sum.add_across(bit);
        target_logit_[h] += __shfl_xor_sync(0xffffffff, target_logit_[h], bit);
        weighted_sum_[h] += __shfl_xor_sync(0xffffffff, weighted_sum_[h], bit);
      }
      const uint32_t row = first_row_ + tile_row<kTallTiles>(h);
      if (threadIdx.x % 4 == 0 && row < rows_) {
        out[row] = make_float4(sum.log2(), target_logit_[h], weighted_sum_[h], sum.largest);
      }
    }
  }

 private:
  static constexpr int kOwn = 2 * kTallTiles;
  const Terms& terms_;
  const uint32_t first_row_, rows_;
  uint32_t target_[kOwn];
  RowSums<kTallTiles> sums_;
  float target_logit_[kOwn] = {}, weighted_sum_[kOwn] = {};
};

// partial [lines, count]: over the columns of each line.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    sum_terms(const __grid_constant__ Problem p, const __grid_constant__ Terms terms,
              const __grid_constant__ CountedRows rows, float4* partial) {
  const GatheredMatrix q = rows.of(p.q);
  const Shares shares(q.rows, p.k.rows, kTallRows);
  if (blockIdx.x >= shares.blocks * shares.lines) return;
  const Portion own(shares, blockIdx.x, p.k.rows);
  const uint32_t first_row = own.block * kTallRows;
  ChunkStream<T, kTallTiles, GatheredMatrix> stream(dynamic_shared<uint16_t>(), q, p.k, first_row,
                                                    own.first_tile * kColumns, own.tiles);
  const float factor = *p.scale * kLog2OfE;
  LaneTerms found(terms, q, first_row);
  for (uint32_t i = 0; i < own.tiles; ++i) {
    const uint32_t first_column = (own.first_tile + i) * kColumns;
    TallTile tile;
    stream.multiply_chunks(tile);
    to_every_logit(tile, p, factor, first_column);
    found.add(tile, first_column, p.k.rows);
  }
  found.store(partial + int64_t(own.line) * q.rows);
}

__global__ void __launch_bounds__(kThreads)
    merge_terms(const float4* partial, const __grid_constant__ CountedRows rows, uint32_t m,
                uint32_t n, const __grid_constant__ DeviceRowTerms out) {
  const uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= m) return;
  const uint32_t at = rows.position[row], count = *rows.count;
  float lse = 0, target_logit = 0, weighted_sum = 0, largest = 0;
  if (at != kNoRow) {
    const uint32_t lines = Shares(count, n, kTallRows).lines;
    ExponentialSum sum;
    largest = -INFINITY;
    for (uint32_t line = 0; line < lines; ++line) {
      const float4 found = partial[int64_t(line) * count + at];
      sum.add({found.x, 1});
      target_logit += found.y;
      weighted_sum += found.z;
      largest = fmaxf(largest, found.w);
    }
    lse = sum.log2();
    if (lse != lse) largest = lse;  // the maximum overlooks NaN, the sum does not
  }
  out.lse[row] = lse * kLogOf2;
  out.target_logit[row] = target_logit * kLogOf2;
  out.weighted_sum[row] = weighted_sum * kLogOf2;
  out.largest[row] = largest * kLogOf2;
}

// ---- Launch -------------------------------------------------------------------------------------

int64_t most_blocks(const DeviceLogits& call) {
  return Shares::most_blocks(call.m, call.n, kTallRows, 1);
}

template <class T>
cudaError_t sum_all(const Problem& p, const Terms& terms, const CountedRows& rows, int64_t blocks,
                    float4* partial, cudaLaunchConfig_t config) {
  config.gridDim = dim3(unsigned(blocks));
  config.dynamicSmemBytes = ChunkStream<T, kTallTiles>::kSharedBytes;
  return cudaLaunchKernelEx(&config, sum_terms<T>, p, terms, rows, partial);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_terms_workspace(const sslk::DeviceTerms* problem) {
  using namespace sslk::device;
  const auto& logits = problem->logits;
  return 4 * most_blocks(logits) * kTallRows + CountedRows::floats(logits.m);
}

extern "C" int sslk_cuda_terms(const sslk::DeviceTerms* problem, const sslk::DeviceRowTerms* out,
                               float* workspace, void* stream) {
  using namespace sslk::device;
  Problem p;
  Terms terms;
  if (!make_terms(*problem, p, terms)) return cudaErrorInvalidValue;
  const auto& logits = problem->logits;
  if (logits.m == 0) return cudaSuccess;
  const int64_t blocks = most_blocks(logits);
  float4* const partial = reinterpret_cast<float4*>(workspace);
  const CountedRows rows = CountedRows::in(workspace + 4 * blocks * kTallRows, logits.m);
  if (const int error = number_rows(terms.target, logits.m, logits.n, rows, stream)) return error;
  cudaLaunchConfig_t config = {};
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  const bool wide_range = logits.dtype == sslk::Dtype::kBFloat16;
  const auto sum = wide_range ? sum_all<__nv_bfloat16> : sum_all<__half>;
  if (const int error = sum(p, terms, rows, blocks, partial, config)) return error;
  config.gridDim = dim3(unsigned(divided_up(logits.m, kThreads)));
  return cudaLaunchKernelEx(&config, merge_terms, partial, rows, p.q.rows, p.k.rows, *out);
}
