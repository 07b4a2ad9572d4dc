// The vector work on one 32 x 32 tile of scores, in steps small enough to run between tile
// products.
#pragma once

#include "amx.h"
#include "exp_avx512.h"

namespace sslk::amx {

constexpr int kGroup = 32;  // rows and columns of one score tile: 2 x 2 tile registers

// Exponentials of one 32 x 32 score tile, row pair by row pair, and their sums: of rows over a
// strip of tiles, and of the tile's columns. With Keep they replace the scores, and only rows are
// summed.
template <int Parts, bool Keep>
struct ExpSums {
  static constexpr int kDegree = Parts == 1 ? 4 : 5;
  __m512 c;
  __m512 rows[kGroup];
  __m512 column0, column1;
  float* tile = nullptr;
  int pair = 16;  // next row pair; 16 when none is left

  explicit ExpSums(float exponent) : c(_mm512_set1_ps(exponent)) { clear_rows(); }
  SSLK_INLINE void clear_rows() {
    for (auto& sum : rows) sum = _mm512_setzero_ps();
  }
  SSLK_INLINE void begin(float* scores) {
    tile = scores;
    pair = 0;
    column0 = column1 = _mm512_setzero_ps();
  }
  SSLK_INLINE void step() {
    if (pair == 16) return;
    add<false>(2 * pair, ~0u);
    add<false>(2 * pair + 1, ~0u);
    ++pair;
  }
  // A whole tile of which only the pairs in mask(r), one bit a column, count.
  template <class Mask>
  void masked(float* scores, Mask&& mask) {
    begin(scores);
    for (int r = 0; r < kGroup; ++r) add<true>(r, mask(r));
    pair = 16;
  }

 private:
  template <bool Masked>
  SSLK_INLINE void add(int r, uint32_t mask) {
    float* row = tile + r * kGroup;
    __m512 e0 = exp2_scaled<kDegree>(_mm512_load_ps(row), c);
    __m512 e1 = exp2_scaled<kDegree>(_mm512_load_ps(row + 16), c);
    if constexpr (Masked) {
      e0 = _mm512_maskz_mov_ps(__mmask16(mask), e0);
      e1 = _mm512_maskz_mov_ps(__mmask16(mask >> 16), e1);
    }
    rows[r] = _mm512_add_ps(rows[r], _mm512_add_ps(e0, e1));
    if constexpr (Keep) {
      _mm512_store_ps(row, e0);
      _mm512_store_ps(row + 16, e1);
    } else {
      column0 = _mm512_add_ps(column0, e0);
      column1 = _mm512_add_ps(column1, e1);
    }
  }
};

// The weights W of one 32 x 32 tile as operands of products, in parts: in A form for W Z, and in B
// form for Z^T W on request. The interleave that makes the B form takes column 8 l + 4 u + w to
// place 4 l + w of tile u; whoever reads the product undoes it with interleaved_column().
template <int Parts>
struct WeightTiles {
  bf16 *a0 = nullptr, *a1 = nullptr, *b0 = nullptr, *b1 = nullptr;

  // Rows 2 pair and 2 pair + 1, two vectors each.
  template <bool BForm, int Part = 0>
  SSLK_INLINE void put(int pair, __m512 (&w)[2][2]) const {
    constexpr bool kLast = Part == Parts - 1;
    constexpr int at = Part * kTileElements;
    const __m512i even = to_bf16(take_part<kLast>(w[0][0]), take_part<kLast>(w[0][1]));
    const __m512i odd = to_bf16(take_part<kLast>(w[1][0]), take_part<kLast>(w[1][1]));
    bf16* a = (pair < 8 ? a0 : a1) + at + (2 * pair & 15) * 32;
    _mm512_store_si512(a, even);
    _mm512_store_si512(a + 32, odd);
    if constexpr (BForm) {
      _mm512_store_si512(b0 + at + pair * 32, _mm512_unpacklo_epi16(even, odd));
      _mm512_store_si512(b1 + at + pair * 32, _mm512_unpackhi_epi16(even, odd));
    }
    if constexpr (!kLast) put<BForm, Part + 1>(pair, w);
  }
};

// Which column of W is at a place of tile u in B form.
constexpr int interleaved_column(int u, int place) { return 8 * (place / 4) + 4 * u + place % 4; }

// W_ij = exp(s_ij) (g_i / l_i + g_j / l_j) of one tile, row pair by row pair.
template <int ValueParts>
struct Weights {
  const float* tile = nullptr;  // scores, or kept exponentials
  const float* row_factor = nullptr;
  __m512 column_factor0, column_factor1;
  WeightTiles<ValueParts> to;
  int pair = 16;  // next row pair; 16 when none is left

  SSLK_INLINE void begin(const float* from, const float* row_factors, const float* column_factors) {
    tile = from;
    row_factor = row_factors;
    column_factor0 = _mm512_loadu_ps(column_factors);
    column_factor1 = _mm512_loadu_ps(column_factors + 16);
    pair = 0;
  }

 protected:
  // weight(factors, r, half) has the weights of row r and 16 columns from their sums of factors.
  template <bool BForm, class Weight>
  SSLK_INLINE void step_pair(Weight&& weight) {
    __m512 w[2][2];
    for (int k = 0; k < 2; ++k) {
      const int r = 2 * pair + k;
      const __m512 factor = _mm512_set1_ps(row_factor[r]);
      w[k][0] = weight(_mm512_add_ps(factor, column_factor0), r, 0);
      w[k][1] = weight(_mm512_add_ps(factor, column_factor1), r, 1);
    }
    to.template put<BForm>(pair, w);
    ++pair;
  }
};

// Weights from scores, in both forms.
template <int ValueParts>
struct ScoreWeights : Weights<ValueParts> {
  static constexpr int kDegree = ValueParts == 1 ? 3 : 5;
  __m512 c;

  explicit ScoreWeights(float exponent) : c(_mm512_set1_ps(exponent)) {}
  SSLK_INLINE void step() {
    if (this->pair == 16) return;
    this->template step_pair<true>([&](__m512 factors, int r, int half) {
      const __m512 score = _mm512_load_ps(this->tile + r * kGroup + 16 * half);
      return _mm512_mul_ps(exp2_scaled<kDegree>(score, c), factors);
    });
  }
  // All that is left of a tile of which only the pairs in mask(r), one bit a column, count.
  template <class Mask>
  void masked(Mask&& mask) {
    while (this->pair < 16) {
      this->template step_pair<true>([&](__m512 factors, int r, int half) {
        const __m512 score = _mm512_load_ps(this->tile + r * kGroup + 16 * half);
        const __mmask16 counts = __mmask16(mask(r) >> 16 * half);
        return _mm512_maskz_mul_ps(counts, exp2_scaled<kDegree>(score, c), factors);
      });
    }
  }
};

// Weights from kept exponentials, zero where a pair does not count, in A form.
template <int ValueParts>
struct KeptWeights : Weights<ValueParts> {
  SSLK_INLINE void step() {
    if (this->pair == 16) return;
    this->template step_pair<false>([&](__m512 factors, int r, int half) {
      return _mm512_mul_ps(_mm512_load_ps(this->tile + r * kGroup + 16 * half), factors);
    });
  }
};

}  // namespace sslk::amx
