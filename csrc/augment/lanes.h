// What pixels need of vectors beyond simd.h.
#pragma once

#include <cstdint>
#include <type_traits>

#include "../simd.h"
#if !defined(__CUDACC__)
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace sslk {

// The integer of a lane's width: shuffles and gathers take such indices.
template <class T>
using Index = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;

template <class To, class From>
SSLK_INLINE To as(From v) {
  static_assert(sizeof(To) == sizeof(From));
  return reinterpret_cast<To>(v);
}

// a > b ? a : b, thus b where either is NaN: one instruction, which GCC does not find by itself.
template <class V>
SSLK_INLINE V larger(V a, V b) {
  using T = std::remove_reference_t<decltype(a[0])>;
  constexpr bool kFloat = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  if constexpr (kFloat)
    return as<V>(_mm512_maskz_max_ps(0xffff, as<__m512>(a), as<__m512>(b)));
  else
    return as<V>(_mm512_maskz_max_pd(0xff, as<__m512d>(a), as<__m512d>(b)));
#elif defined(__AVX2__)
  if constexpr (kFloat)
    return as<V>(_mm256_max_ps(as<__m256>(a), as<__m256>(b)));
  else
    return as<V>(_mm256_max_pd(as<__m256d>(a), as<__m256d>(b)));
#elif defined(__SSE2__)
  if constexpr (kFloat)
    return as<V>(_mm_max_ps(as<__m128>(a), as<__m128>(b)));
  else
    return as<V>(_mm_max_pd(as<__m128d>(a), as<__m128d>(b)));
#else
  return a > b ? a : b;
#endif
}
// a < b ? a : b, thus b where either is NaN.
template <class V>
SSLK_INLINE V smaller(V a, V b) {
  using T = std::remove_reference_t<decltype(a[0])>;
  constexpr bool kFloat = std::is_same_v<T, float>;
#if defined(__AVX512F__)
  if constexpr (kFloat)
    return as<V>(_mm512_maskz_min_ps(0xffff, as<__m512>(a), as<__m512>(b)));
  else
    return as<V>(_mm512_maskz_min_pd(0xff, as<__m512d>(a), as<__m512d>(b)));
#elif defined(__AVX2__)
  if constexpr (kFloat)
    return as<V>(_mm256_min_ps(as<__m256>(a), as<__m256>(b)));
  else
    return as<V>(_mm256_min_pd(as<__m256d>(a), as<__m256d>(b)));
#elif defined(__SSE2__)
  if constexpr (kFloat)
    return as<V>(_mm_min_ps(as<__m128>(a), as<__m128>(b)));
  else
    return as<V>(_mm_min_pd(as<__m128d>(a), as<__m128d>(b)));
#else
  return a < b ? a : b;
#endif
}

// x in [lo, hi]; NaN stays NaN.
template <class V>
SSLK_INLINE V clamp(V x, V lo, V hi) {
  return smaller(hi, larger(lo, x));
}

template <class V>
SSLK_INLINE V absolute(V x) {
  using T = std::remove_reference_t<decltype(x[0])>;
  return as<V>(as<Vec<Bits<T>>>(x) & (~Bits<T>(0) >> 1));
}

// y where x has no minus sign, else -y.
template <class V>
SSLK_INLINE V negated_as(V x, V y) {
  using T = std::remove_reference_t<decltype(x[0])>;
  using B = Vec<Bits<T>>;
  return as<V>(as<B>(y) ^ (as<B>(x) & ~(~Bits<T>(0) >> 1)));
}

// Keeps the compiler from fusing the product x into a multiply-add, where the result must be that
// of the two roundings.
template <class V>
SSLK_INLINE V rounded(V x) {
#if defined(__aarch64__)
  asm("" : "+w"(x));
#elif defined(__SSE2__)
  asm("" : "+x"(x));
#else
  volatile V copy = x;
  x = copy;
#endif
  return x;
}

// 0, 1, 2, ...
template <class T>
SSLK_INLINE Vec<Index<T>> lane_numbers() {
  Vec<Index<T>> lanes;
  for (int lane = 0; lane < kLanes<T>; ++lane) lanes[lane] = lane;
  return lanes;
}

template <class T>
SSLK_INLINE Vec<T> gather(const T* from, Vec<Index<T>> at) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return as<Vec<T>>(_mm512_mask_i32gather_ps(__m512{}, 0xffff, as<__m512i>(at), from, 4));
  else
    return as<Vec<T>>(_mm512_mask_i64gather_pd(__m512d{}, 0xff, as<__m512i>(at), from, 8));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return as<Vec<T>>(_mm256_i32gather_ps(from, as<__m256i>(at), 4));
  else
    return as<Vec<T>>(_mm256_i64gather_pd(from, as<__m256i>(at), 8));
#else
  Vec<T> v;
  for (int lane = 0; lane < kLanes<T>; ++lane) v[lane] = from[at[lane]];
  return v;
#endif
}

// Integers of a lane's width from and to the floats of that width; they are small and not negative
// where they come from pixels.
template <class T>
SSLK_INLINE Vec<T> to_float(Vec<Index<T>> v) {
  return __builtin_convertvector(v, Vec<T>);
}
template <class T>
SSLK_INLINE Vec<Index<T>> truncated(Vec<T> v) {
  return __builtin_convertvector(v, Vec<Index<T>>);
}

}  // namespace sslk

#endif
