// The gradient of a tile of logits, of which each counts in the log-sum-exp of its row and in the
// weighted sum, and one of a row as its target.
#pragma once

#include "device_row_gradients.h"
#include "device_terms.h"

namespace sslk::device {

// Of the rows that count, one after another, [count].
struct TermUpstream {
  const float4* grads;   // of lse, target logit and weighted sum; then 0
  const uint2* targets;  // the bits of the lse in base 2, and the target
  const float* unit;     // what gradients are stored as multiples of, and 1 / it; null: 1
};

// In the same unit, or of 1; with a line for each of the blocks that share rows. May be null.
struct TermGradientSums {
  float* of_bias;      // [lines, keys]: of G over the rows
  float* of_products;  // [blocks]: of G_ij <q_i, k_j>
};

template <Side kRows, bool kCapped>
class TermGradient {
 public:
  __device__ __forceinline__ TermGradient(const Problem& p, const Terms& terms,
                                          const TermUpstream& upstream,
                                          const TermGradientSums& sums, uint32_t counted,
                                          uint32_t first_row)
      : p_(p),
        terms_(terms),
        upstream_(upstream),
        sums_(sums),
        counted_(counted),
        first_row_(first_row) {}

  __device__ __forceinline__ float unit() const { return upstream_.unit ? *upstream_.unit : 1; }

  __device__ __forceinline__ void replace(Tile<1>& tile, uint32_t first_column) {
    // Read for every tile: between tiles there are no registers for them.
    const float factor = *p_.scale * kLog2OfE;
    if constexpr (kRows == Side::kQueries) {
      const Query of_row[2] = {query(first_row_ + tile_row<1>(0)),
                               query(first_row_ + tile_row<1>(1))};
#pragma unroll
      for (int c = 0; c < 16; ++c) {
        const uint32_t column = first_column + tile_column(c);
        const Key of_column = key(column);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& value = tile.at(h, c);
          const float product = value;
          value = gradient(product, factor, of_row[h], of_column);
          if (column >= p_.k.rows) value = 0;
          product_sum_ = __fmaf_rn(value, product, product_sum_);
        }
      }
    } else {
      const Key of_row[2] = {key(first_row_ + tile_row<1>(0)), key(first_row_ + tile_row<1>(1))};
#pragma unroll
      for (int c = 0; c < 16; ++c) {
        const Query of_column = query(first_column + tile_column(c));
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& value = tile.at(h, c);
          value = gradient(value, factor, of_column, of_row[h]);
          bias_sum_[h] += value;
        }
      }
    }
  }

  // shared: one for each warp.
  __device__ __forceinline__ void store(uint32_t line, float* shared) const {
    if (kRows == Side::kKeys && sums_.of_bias) {
      store_row_sums(bias_sum_, unit(), first_row_, p_.k.rows,
                     sums_.of_bias + int64_t(line) * p_.k.rows);
    }
    if (kRows == Side::kQueries) {
      const float sum = block_sum(product_sum_, shared) * unit();
      if (threadIdx.x == 0) sums_.of_products[blockIdx.x] = sum;
    }
  }

 private:
  struct Query {
    float of_lse, of_target, of_sum, shift;
    uint32_t target;
  };
  struct Key {
    float bias, weight;
    uint32_t number;
  };

  __device__ __forceinline__ Query query(uint32_t i) const {
    if (i >= counted_) return {0, 0, 0, INFINITY, kNoRow};
    const float4 grads = upstream_.grads[i];
    const uint2 target = upstream_.targets[i];
    const float share = upstream_.unit ? upstream_.unit[1] : 1;
    return {grads.x * share, grads.y * share, grads.z * share, __uint_as_float(target.x), target.y};
  }
  __device__ __forceinline__ Key key(uint32_t j) const {
    const uint32_t at = min(j, p_.k.rows - 1);
    return {p_.bias ? p_.bias[at] * kLog2OfE : 0,
            terms_.column_weight ? terms_.column_weight[at] : 0, j};
  }

  __device__ __forceinline__ float gradient(float product, float factor, const Query& query,
                                            const Key& key) const {
    float exponent, slope = 1;
    if constexpr (kCapped) {
      const float tangent = terms_.tangent(__fmaf_rn(product, factor, key.bias));
      exponent = __fmaf_rn(terms_.cap, tangent, -query.shift);
      slope = __fmaf_rn(-tangent, tangent, 1);
    } else {
      exponent = __fmaf_rn(product, factor, key.bias - query.shift);
    }
    float sum = __fmaf_rn(exp2_of(exponent), query.of_lse, query.of_sum * key.weight);
    if (key.number == query.target) sum += query.of_target;
    return kCapped ? sum * slope : sum;
  }

  const Problem& p_;
  const Terms& terms_;
  const TermUpstream& upstream_;
  const TermGradientSums& sums_;
  const uint32_t counted_, first_row_;
  float bias_sum_[2] = {};
  float product_sum_ = 0;
};

}  // namespace sslk::device
