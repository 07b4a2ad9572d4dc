// Products of bfloat16 numbers, two at a time, on AVX512_BF16: twice the rate of float32, summed in
// float32.
#pragma once

#ifdef __AVX512BF16__

#include "simd.h"

namespace sslk {

// Two neighbours along the dimension that a product sums over, the first in the low half.
enum class Pair : uint32_t {};

template <>
struct VectorOf<Pair> {
  typedef uint32_t type __attribute__((vector_size(kVectorBytes)));
};

// sum + x.first * b.first + x.second * b.second, in every lane.
SSLK_INLINE Vec<float> multiply_add(Pair x, Vec<Pair> b, Vec<float> sum) {
  const auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(int(x)));
  return reinterpret_cast<Vec<float>>(
      _mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), both, reinterpret_cast<__m512bh>(b)));
}

// Sixteen pairs of numbers that lie one after the other.
SSLK_INLINE Vec<Pair> neighbours(Vec<float> first, Vec<float> rest) {
  return reinterpret_cast<Vec<Pair>>(
      _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(rest), reinterpret_cast<__m512>(first)));
}
// Sixteen pairs, each of a lane of `first` and the same lane of `second`.
SSLK_INLINE Vec<Pair> lane_by_lane(Vec<float> first, Vec<float> second) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                      21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                      11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return reinterpret_cast<Vec<Pair>>(_mm512_permutexvar_epi16(
      _mm512_load_si512(kOrder), reinterpret_cast<__m512i>(neighbours(first, second))));
}

}  // namespace sslk

#endif  // __AVX512BF16__
