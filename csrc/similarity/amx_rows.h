// Rows of matrices in memory, to and from the tile unit's operands.
#pragma once

#include <cstdint>

#include "amx.h"
#include "problem.h"

namespace sslk::amx {

// How many bfloat16 parts an element is split into: bfloat16 holds 8 bits, so float16's 11 take two
// and float32's 24 three.
inline int parts(Dtype dtype, Precision precision) {
  if (in_bfloat16(dtype, precision)) return 1;
  return dtype == Dtype::kFloat32 && precision == Precision::kHighest ? 3 : 2;
}

// 16 elements of a row from column d on, zero past the end.
template <Dtype T>
SSLK_INLINE __m512 load16(const void* row, int64_t d, __mmask16 mask) {
  if constexpr (T == Dtype::kFloat32) {
    return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(row) + d);
  } else {
    const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(row) + d);
    if constexpr (T == Dtype::kFloat16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
}

template <Dtype T>
SSLK_INLINE void store16(void* row, int64_t d, __mmask16 mask, __m512 x) {
  if constexpr (T == Dtype::kFloat32) {
    _mm512_mask_storeu_ps(static_cast<float*>(row) + d, mask, x);
  } else {
    __m256i half;
    if constexpr (T == Dtype::kFloat16) {
      half = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    } else {
      half = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
    }
    _mm256_mask_storeu_epi16(static_cast<uint16_t*>(row) + d, mask, half);
  }
}

SSLK_INLINE __mmask16 tail_mask(int64_t d, int64_t width) {
  const int64_t left = width - d;
  return left >= 16 ? 0xffff : left <= 0 ? 0 : __mmask16((1u << left) - 1);
}

// 16 elements of a row of any dtype but float64.
SSLK_INLINE __m512 load16(Dtype dtype, const void* row, int64_t d, __mmask16 mask) {
  switch (dtype) {
    case Dtype::kFloat32:
      return load16<Dtype::kFloat32>(row, d, mask);
    case Dtype::kBFloat16:
      return load16<Dtype::kBFloat16>(row, d, mask);
    default:
      return load16<Dtype::kFloat16>(row, d, mask);
  }
}
SSLK_INLINE void store16(Dtype dtype, void* row, int64_t d, __mmask16 mask, __m512 x) {
  switch (dtype) {
    case Dtype::kFloat32:
      return store16<Dtype::kFloat32>(row, d, mask, x);
    case Dtype::kBFloat16:
      return store16<Dtype::kBFloat16>(row, d, mask, x);
    default:
      return store16<Dtype::kFloat16>(row, d, mask, x);
  }
}

// Row r of a block of 32 x 32, two vectors of 16, as bfloat16 parts.
template <int Parts>
SSLK_INLINE void split(__m512 low, __m512 high, int r, bf16 (&part)[Parts][2 * kTileElements]) {
  auto put = [&](int s, __m512 x, __m512 y) {
    _mm512_store_si512(part[s] + r * 32, to_bf16(x, y));
  };
  if constexpr (Parts >= 2) put(0, take_part<false>(low), take_part<false>(high));
  if constexpr (Parts == 3) put(1, take_part<false>(low), take_part<false>(high));
  put(Parts - 1, low, high);
}

// 16 of a block's columns in B form: pairs of rows interleaved.
inline void interleave_rows(const bf16* block, int half, bf16* tile) {
  for (int pair = 0; pair < 16; ++pair) {
    auto sixteen = [&](int r) {
      return _mm512_cvtepu16_epi32(
          _mm256_load_si256(reinterpret_cast<const __m256i*>(block + r * 32 + half * 16)));
    };
    const __m512i odd = _mm512_slli_epi32(sixteen(2 * pair + 1), 16);
    _mm512_store_si512(tile + pair * 32, _mm512_or_si512(sixteen(2 * pair), odd));
  }
}

}  // namespace sslk::amx
