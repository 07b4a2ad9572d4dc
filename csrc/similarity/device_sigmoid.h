// The logistic loss of a tile of products, log(1 + exp(x)): x is the logit, negated where row and
// column are a pair, so that each should be small.
#pragma once

#include <algorithm>

#include "device_logits.h"

namespace sslk::device {

// DeviceSigmoid as it travels with a launch, beside its logits.
struct Sigmoid {
  const float* bias;
  uint32_t first;  // number of keys: no pair
  float weight;
};

inline bool make_sigmoid(const DeviceSigmoid& call, Problem& p, Sigmoid& s) {
  if (call.first < 0 || !make_problem(call.logits, p)) return false;
  s = {call.bias, uint32_t(std::min(call.first, call.logits.n)), call.weight};
  return true;
}

// f(product, x in base 2, sign of x against the logit, h) for all of a lane in its rows h. What
// lies past the end has an x of -inf, which costs nothing.
template <bool kRowsAreQueries, int kRowTiles, class F>
__device__ __forceinline__ void each_logit(Tile<kRowTiles>& tile, const Problem& p,
                                           const Sigmoid& s, uint32_t first_row,
                                           uint32_t first_column, F&& f) {
  constexpr uint32_t kRows = 64 * kRowTiles;
  const float factor = *p.scale * kLog2OfE, bias = *s.bias * kLog2OfE;
  const uint32_t first_query = kRowsAreQueries ? first_row : first_column;
  const uint32_t first_key = kRowsAreQueries ? first_column : first_row;
  constexpr uint32_t kQueries = kRowsAreQueries ? kRows : kColumns;
  constexpr uint32_t kKeys = kRowsAreQueries ? kColumns : kRows;
  // Of a tile's queries and keys the pairs lie on a diagonal, which most tiles do not meet.
  const uint32_t first_pair = first_query + s.first;
  const bool pairs = first_pair < first_key + kKeys && first_key < first_pair + kQueries;
  if (!pairs && first_query + kQueries <= p.q.rows && first_key + kKeys <= p.k.rows) {
    tile.for_each(
        [&](float& value, int h, int) { f(value, __fmaf_rn(value, factor, bias), 1, h); });
    return;
  }
  tile.for_each([&](float& value, int h, int c) {
    const uint32_t row = tile_row<kRowTiles>(h), column = tile_column(c);
    const uint32_t query = first_query + (kRowsAreQueries ? row : column);
    const uint32_t key = first_key + (kRowsAreQueries ? column : row);
    const bool inside = query < p.q.rows && key < p.k.rows;
    const float sign = key == query + s.first ? -1 : 1;
    f(value, inside ? sign * __fmaf_rn(value, factor, bias) : -INFINITY, sign, h);
  });
}

// log(1 + 2^x) = max(x, 0) log(2) + log(1 + u)
__device__ __forceinline__ float fraction(float x) { return exp2_of(-fabsf(x)); }

// Of a lane's kRows rows.
template <int kRows>
class LossSum {
 public:
  // u = fraction(x)
  __device__ __forceinline__ void add(float x, float u, int h) {
    above_ += fmaxf(x, 0);
    product_[h] = __fmaf_rn(product_[h], u, product_[h] + u);
  }
  // After every tile.
  __device__ __forceinline__ void close() {
    float of_tile = above_ * kLogOf2;
    above_ = 0;
#pragma unroll
    for (float& product : product_) {
      of_tile += log1pf(product);
      product = 0;
    }
    total_ += of_tile;
  }
  __device__ __forceinline__ float total() const { return total_; }

 private:
  float above_ = 0, total_ = 0;
  // The product of 1 + u over a tile's columns, less 1, which leaves small u their digits: one
  // logarithm serves 16 losses. A factor is at most 2.
  float product_[kRows] = {};
};

// As add_gradients wants it, which gives the value on the way: sums [3, lines, blocks of queries],
// of the losses, of their slopes, and of those times <q_i, k_j>; each times the weight.
template <class T, Side kRows>
class SigmoidGradient {
 public:
  static constexpr Side kSide = kRows;
  struct Arguments {
    Sigmoid sigmoid;
    float* sums;  // for queries
  };

  __device__ __forceinline__ SigmoidGradient(const Problem& p, const Arguments& arguments,
                                             uint32_t first_row)
      : p_(p), arguments_(arguments), first_row_(first_row) {}

  __device__ __forceinline__ float unit() const { return arguments_.sigmoid.weight / kStored; }

  __device__ __forceinline__ void replace(Tile<1>& tile, uint32_t first_column) {
    each_logit<kOfQueries>(tile, p_, arguments_.sigmoid, first_row_, first_column,
                           [&](float& value, float x, float sign, int h) {
                             const float product = value, u = fraction(x);
                             const float slope = sign * __fdividef(x > 0 ? 1 : u, 1 + u);
                             if constexpr (kOfQueries) {
                               losses_.add(x, u, h);
                               slope_sum_ += slope;
                               product_sum_ = __fmaf_rn(slope, product, product_sum_);
                             }
                             value = slope * kStored;
                           });
    if constexpr (kOfQueries) losses_.close();
  }

  // shared: one for each warp.
  __device__ __forceinline__ void store(uint32_t line, float* shared) const {
    if constexpr (kOfQueries) {
      const float sums[3] = {losses_.total(), slope_sum_, product_sum_};
#pragma unroll
      for (int kind = 0; kind < 3; ++kind) {
        const float sum = block_sum(sums[kind], shared) * arguments_.sigmoid.weight;
        const int64_t block = (int64_t(kind) * gridDim.z + line) * gridDim.x + blockIdx.x;
        if (threadIdx.x == 0) arguments_.sums[block] = sum;
      }
    }
  }

 private:
  static constexpr bool kOfQueries = kSide == Side::kQueries;
  // A slope is within [-1, 1]; float16 holds it times this, and smaller ones so.
  static constexpr float kStored = std::is_same_v<T, __half> ? 0x1p15f : 1;

  const Problem& p_;
  const Arguments& arguments_;
  const uint32_t first_row_;
  LossSum<2> losses_;
  float slope_sum_ = 0, product_sum_ = 0;
};

}  // namespace sslk::device
