// Vectors of this ISA's width, in the compiler's own vector extension: one source for every ISA.
#pragma once

#if defined(__CUDACC__)
#include "one_lane.h"
#else

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define SSLK_INLINE inline __attribute__((always_inline))

namespace sslk {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kVectorRegisters = 32;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kVectorRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorBytes = 16;
constexpr int kVectorRegisters = 16;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vec = typename VectorOf<T>::type;

template <class V>
using Lane = std::remove_reference_t<decltype(std::declval<V&>()[0])>;

template <class T>
constexpr int kLanes = kVectorBytes / int(sizeof(T));

template <class T>
SSLK_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <class T>
SSLK_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof(v));
}
template <class T>
SSLK_INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}
template <class V>
SSLK_INLINE auto sum(V v) {
  auto total = v[0];
  for (size_t lane = 1; lane < sizeof(v) / sizeof(total); ++lane) total += v[lane];
  return total;
}

// 1 / x, to a rounding or two, for x of ordinary size.
template <class T>
SSLK_INLINE Vec<T> reciprocal(Vec<T> x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {  // a division keeps two ports busy for 16 cycles
    const Vec<T> r = reinterpret_cast<Vec<T> >(_mm512_rcp14_ps(reinterpret_cast<__m512>(x)));
    return r + r * (T(1) - x * r);
  }
#endif
  return T(1) / x;
}

// The integer of the same width, to take a float's exponent apart; unsigned, since it wraps.
template <class T>
using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

// 2^(c x + n), lane by lane, n an integer, where |c x + n| stays below 125 (float) and 1020
// (double). The relative error is 8e-8, without bias, and 1e-16; NaN stays NaN.
template <class T>
SSLK_INLINE Vec<T> exp2_scaled(Vec<T> x, T c, T n = 0) {
  constexpr bool kDouble = sizeof(T) == 8;
  // Adding 1.5 * 2^mantissa rounds to an integer and leaves it, plus n, in the low bits.
  const T magic = (kDouble ? T(6755399441055744.0) : T(12582912.0)) + n;
  const Vec<T> scaled = x * c;
  const Vec<T> shifted = x * c + magic;
  const Vec<T> f = scaled - (shifted - magic);  // in [-1/2, 1/2]
  Vec<T> p;
  if constexpr (kDouble) {  // Taylor series of e^t: the 14th term is below 1e-17
    const Vec<T> t = f * T(0.693147180559945309417);
    p = broadcast(T(1.0 / 6227020800.0));
    constexpr T kFactorials[] = {479001600, 39916800, 3628800, 362880, 40320, 5040,
                                 720,       120,      24,      6,      2,     1};
    for (T factorial : kFactorials) p = p * t + T(1) / factorial;
    p = p * t + T(1);
  } else {  // minimax, exactly 1 at 0
    p = broadcast(T(0.00015353362f)) * f + T(0.0013398875f);
    p = p * f + T(0.009618437f);
    p = p * f + T(0.055503324f);
    p = p * f + T(0.24022648f);
    p = p * f + T(0.6931472f);
    p = p * f + T(1);
  }
  constexpr int kMantissa = kDouble ? 52 : 23;
  const auto exponent = reinterpret_cast<Vec<Bits<T> > >(shifted) << kMantissa;
  return reinterpret_cast<Vec<T> >(reinterpret_cast<Vec<Bits<T> > >(p) + exponent);
}

}  // namespace sslk

#endif
