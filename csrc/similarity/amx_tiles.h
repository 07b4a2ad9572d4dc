// The vector work on one 32 x 32 tile of scores, in steps small enough to run between tile
// products.
#pragma once

#include "amx.h"
#include "exp_avx512.h"

namespace sslk::amx {

constexpr int kGroup = 32;  // rows and columns of one score tile: 2 x 2 tile registers

// Exponentials of one 32 x 32 score tile, row pair by row pair, added to the row and column sums.
template <int Parts>
struct ExpSums {
  static constexpr int kDegree = Parts == 1 ? 4 : 5;
  __m512 c;
  __m512 rows[kGroup];  // running sums of the strip of tiles with these rows
  __m512 column0, column1;
  const float* tile = nullptr;
  int pair = 16;  // next row pair; 16 when none is left

  SSLK_INLINE void begin(const float* scores) {
    tile = scores;
    pair = 0;
    column0 = column1 = _mm512_setzero_ps();
  }
  SSLK_INLINE void step() {
    if (pair == 16) return;
    for (int r = 2 * pair; r < 2 * pair + 2; ++r) {
      const __m512 e0 = exp2_scaled<kDegree>(_mm512_load_ps(tile + r * kGroup), c);
      const __m512 e1 = exp2_scaled<kDegree>(_mm512_load_ps(tile + r * kGroup + 16), c);
      rows[r] = _mm512_add_ps(rows[r], _mm512_add_ps(e0, e1));
      column0 = _mm512_add_ps(column0, e0);
      column1 = _mm512_add_ps(column1, e1);
    }
    ++pair;
  }
};

// W_ij = exp(s_ij) (g_i / l_i + g_j / l_j) of one score tile, written as the A operand of W Z and
// the B operand of Z^T W. The interleave that makes the B form takes columns 8 l + 4 u + w to
// place 4 l + w of tile u; the kernel undoes it at the end.
template <int ValueParts>
struct Weights {
  static constexpr int kDegree = ValueParts == 1 ? 3 : 5;
  __m512 c;
  const float* tile = nullptr;
  const float* row_factor = nullptr;
  __m512 column_factor0, column_factor1;
  bf16 *a0 = nullptr, *a1 = nullptr, *b0 = nullptr, *b1 = nullptr;
  int pair = 16;

  SSLK_INLINE void step() {
    if (pair == 16) return;
    const int r = 2 * pair;
    __m512 w[2][2];
    for (int k = 0; k < 2; ++k) {
      const __m512 factor = _mm512_set1_ps(row_factor[r + k]);
      const float* row = tile + (r + k) * kGroup;
      w[k][0] = _mm512_mul_ps(exp2_scaled<kDegree>(_mm512_load_ps(row), c),
                              _mm512_add_ps(factor, column_factor0));
      w[k][1] = _mm512_mul_ps(exp2_scaled<kDegree>(_mm512_load_ps(row + 16), c),
                              _mm512_add_ps(factor, column_factor1));
    }
    write(w);
    ++pair;
  }
  SSLK_INLINE void write(__m512 (&w)[2][2]) {
    bf16* a = (pair < 8 ? a0 : a1) + (2 * pair & 15) * 32;
    write_part<0>(w, a);
    if constexpr (ValueParts >= 2) write_part<1>(w, a);
    if constexpr (ValueParts == 3) write_part<2>(w, a);
  }
  template <int Part>
  SSLK_INLINE void write_part(__m512 (&w)[2][2], bf16* a) {
    constexpr bool kLast = Part == ValueParts - 1;
    const __m512i even = to_bf16(take_part<kLast>(w[0][0]), take_part<kLast>(w[0][1]));
    const __m512i odd = to_bf16(take_part<kLast>(w[1][0]), take_part<kLast>(w[1][1]));
    constexpr int at = Part * kTileElements;
    _mm512_store_si512(a + at, even);
    _mm512_store_si512(a + at + 32, odd);
    _mm512_store_si512(b0 + at + pair * 32, _mm512_unpacklo_epi16(even, odd));
    _mm512_store_si512(b1 + at + pair * 32, _mm512_unpackhi_epi16(even, odd));
  }
};

}  // namespace sslk::amx
