// The gradient of a tile of logits, weight exp(logit - lse) with a query's upstream gradient as
// weight.
#pragma once

#include "device_row_gradients.h"
#include "softmaxes.h"

namespace sslk::device {

struct Upstream {
  Softmaxes of_queries;
  const float* unit;  // what gradients are stored as multiples of, and 1 / it; null: 1
};

// Of gradients, in the same unit; with a line for each of the blocks that share rows. May be null.
struct GradientSums {
  float* of_bias;      // [lines, rows]: of G over the columns
  float* of_products;  // [lines, blocks of rows]: of G_ij <q_i, k_j>
};

// Of the logits that a lane has, and its share of their sums.
template <Side kRows>
class LogitGradient {
 public:
  static constexpr Side kSide = kRows;
  struct Arguments {
    Upstream upstream;
    GradientSums sums;
  };

  __device__ __forceinline__ LogitGradient(const Problem& p, const Arguments& arguments,
                                           uint32_t first_row)
      : p_(p), upstream_(arguments.upstream), sums_(arguments.sums), first_row_(first_row) {}

  __device__ __forceinline__ float unit() const { return upstream_.unit ? *upstream_.unit : 1; }

  // The tile of products becomes that of gradients.
  __device__ __forceinline__ void replace(Tile<1>& tile, uint32_t first_column) {
    if constexpr (kSide == Side::kQueries) {
      const Hidden<1> hidden(p_, true, p_.k.rows, first_row_, first_column);
      replace(tile, first_column, hidden, hidden);
    } else if constexpr (kSide == Side::kKeys) {
      const Hidden<1> hidden(p_, false, p_.q.rows, first_row_, first_column);
      replace(tile, first_column, hidden, hidden);
    } else {
      replace(tile, first_column, Hidden<1>(p_, true, p_.k.rows, first_row_, first_column),
              Hidden<1>(p_, false, p_.q.rows, first_row_, first_column));
    }
  }

  // shared: one for each warp.
  __device__ __forceinline__ void store(uint32_t line, float* shared) const {
    if (sums_.of_bias) {
      const uint32_t rows = kSide == Side::kKeys ? p_.k.rows : p_.q.rows;
      store_row_sums(bias_sum_, 1, first_row_, rows, sums_.of_bias + int64_t(line) * rows);
    }
    if (sums_.of_products) {
      const float sum = block_sum(product_sum_, shared);
      if (threadIdx.x == 0) sums_.of_products[int64_t(line) * gridDim.x + blockIdx.x] = sum;
    }
  }

 private:
  __device__ __forceinline__ Softmax query(uint32_t i) const {
    return upstream_.of_queries.at(i, p_.q.rows, upstream_.unit);
  }
  __device__ __forceinline__ float bias(uint32_t j) const {
    return p_.bias ? p_.bias[min(j, p_.k.rows - 1)] * kLog2OfE : 0;
  }

  // What is hidden from rows that are queries, and from rows that are keys.
  __device__ __forceinline__ void replace(Tile<1>& tile, uint32_t first_column,
                                          const Hidden<1>& from_query, const Hidden<1>& from_key) {
    // Read for every tile: between tiles there are no registers for them.
    const float factor = *p_.scale * kLog2OfE;
    Softmax of_row[2];
    float bias_of_row[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const uint32_t row = first_row_ + tile_row<1>(h);
      if constexpr (kSide != Side::kKeys) of_row[h] = query(row);
      if constexpr (kSide != Side::kQueries) bias_of_row[h] = bias(row);
    }
#pragma unroll
    for (int c = 0; c < 16; ++c) {
      const uint32_t column = first_column + tile_column(c);
      Softmax of_column = {};
      float bias_of_column = 0;
      if constexpr (kSide != Side::kQueries) of_column = query(column);
      if constexpr (kSide != Side::kKeys) bias_of_column = bias(column);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float& value = tile.at(h, c);
        const float product = value;
        value = 0;
        if constexpr (kSide != Side::kKeys) {
          float exponent = __fmaf_rn(product, factor, bias_of_column - of_row[h].shift);
          if (from_query.has(h, c)) exponent = -INFINITY;
          value = exp2_of(exponent) * of_row[h].weight;
          product_sum_ = __fmaf_rn(value, product, product_sum_);
        }
        if constexpr (kSide != Side::kQueries) {
          float exponent = __fmaf_rn(product, factor, bias_of_row[h] - of_column.shift);
          if (from_key.has(h, c)) exponent = -INFINITY;
          const float gradient = exp2_of(exponent) * of_column.weight;
          bias_sum_[h] += gradient;
          value += gradient;
        }
      }
    }
  }

  const Problem& p_;
  const Upstream& upstream_;
  const GradientSums& sums_;
  const uint32_t first_row_;
  float bias_sum_[2] = {};
  float product_sum_ = 0;
};

}  // namespace sslk::device
