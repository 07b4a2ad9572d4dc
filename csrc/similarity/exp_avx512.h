// 2^(c x) of 16 floats at a time, by range reduction and a minimax polynomial.
#pragma once

#include <immintrin.h>

namespace sslk {

// Relative error of the polynomial: degree 3 7e-5, degree 4 8e-7 in the mean, degree 5 1e-7.
// Right for |c x| <= 125; NaN stays NaN. There is no clamp: callers bound c x.
template <int Degree>
inline __attribute__((always_inline)) __m512 exp2_scaled(__m512 x, __m512 c) {
  static_assert(Degree >= 3 && Degree <= 5);
  // Adding 1.5 * 2^23 rounds to an integer n and leaves it in the low bits.
  const __m512 magic = _mm512_set1_ps(12582912.0f);
  const __m512 shifted = _mm512_fmadd_ps(x, c, magic);
  const __m512 f = _mm512_fmsub_ps(x, c, _mm512_sub_ps(shifted, magic));  // in [-1/2, 1/2]
  auto step = [&](__m512 p, float a) { return _mm512_fmadd_ps(p, f, _mm512_set1_ps(a)); };
  __m512 p;
  if constexpr (Degree == 3) {
    p = step(step(step(_mm512_set1_ps(0.0551716668f), 0.242611135f), 0.693260987f), 0.999928073f);
  } else if constexpr (Degree == 4) {
    p = step(step(_mm512_set1_ps(0.00957010165f), 0.0559178621f), 0.240247448f);
    p = step(step(p, 0.693121815f), 0.999999261f);
  } else {
    p = step(step(_mm512_set1_ps(0.00132764717f), 0.00967554154f), 0.0555071328f);
    p = step(step(step(p, 0.240220197f), 0.693146967f), 1.00000007f);
  }
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent));
}

}  // namespace sslk
