// Logits with pairs, and the gradient of a tile of them: each counts in the softmax of its row and
// in that of its column, and some as the logit of a pair.
#pragma once

#include "softmaxes.h"

namespace sslk::device {

inline bool make_pairs(const DevicePairs& call, Problem& p) {
  return call.first >= 0 && call.first <= call.logits.n - call.logits.m &&
         make_problem(call.logits, p);
}

// For rows and columns that are queries and keys, or keys and queries.
struct PairUpstream {
  Softmaxes of_rows, of_columns;
  const float* of_pairs;  // [queries]
  const float* unit;      // what gradients are stored as multiples of, and 1 / it; null: 1
  uint32_t offset;        // a pair's column less its row
};

// As add_gradients wants it.
class PairGradient {
 public:
  static constexpr Side kSide =
      Side::kQueries;  // which of p's rows are keys is for the host to say
  struct Arguments {
    PairUpstream upstream;
    float* product_sums;  // [lines, blocks]: of G_ij <q_i, k_j>, in the same unit; or null
  };

  __device__ __forceinline__ PairGradient(const Problem& p, const Arguments& arguments,
                                          uint32_t first_row)
      : p_(p), arguments_(arguments), first_row_(first_row) {}

  __device__ __forceinline__ float unit() const {
    const float* const unit = arguments_.upstream.unit;
    return unit ? *unit : 1;
  }

  __device__ __forceinline__ void replace(Tile<1>& tile, uint32_t first_column) {
    if (may_pair<1>(first_row_, first_column, arguments_.upstream.offset)) {
      replace<true>(tile, first_column);
    } else {
      replace<false>(tile, first_column);
    }
  }

  // shared: one for each warp.
  __device__ __forceinline__ void store(uint32_t line, float* shared) const {
    if (!arguments_.product_sums) return;
    const float sum = block_sum(product_sum_, shared);
    if (threadIdx.x == 0) arguments_.product_sums[int64_t(line) * gridDim.x + blockIdx.x] = sum;
  }

 private:
  template <bool kPairs>
  __device__ __forceinline__ void replace(Tile<1>& tile, uint32_t first_column) {
    const PairUpstream& upstream = arguments_.upstream;
    // Read for every tile: between tiles there are no registers for them.
    const float factor = *p_.scale * kLog2OfE;
    Softmax of_row[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      of_row[h] = upstream.of_rows.at(first_row_ + tile_row<1>(h), p_.q.rows, upstream.unit);
    }
#pragma unroll
    for (int c = 0; c < 16; ++c) {
      const uint32_t column = first_column + tile_column(c);
      const Softmax of_column = upstream.of_columns.at(column, p_.k.rows, upstream.unit);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float& value = tile.at(h, c);
        const float product = value;
        const auto gradient = [&](const Softmax& softmax) {
          return exp2_of(__fmaf_rn(product, factor, -softmax.shift)) * softmax.weight;
        };
        value = gradient(of_row[h]) + gradient(of_column);
        if constexpr (kPairs) {
          const uint32_t row = first_row_ + tile_row<1>(h);
          if (column - row == upstream.offset && row < p_.q.rows && column < p_.k.rows) {
            // The query is the lesser: its key comes `first` later.
            value += upstream.of_pairs[min(row, column)] * (upstream.unit ? upstream.unit[1] : 1);
          }
        }
        product_sum_ = __fmaf_rn(value, product, product_sum_);
      }
    }
  }

  const Problem& p_;
  const Arguments& arguments_;
  const uint32_t first_row_;
  float product_sum_ = 0;
};

}  // namespace sslk::device
