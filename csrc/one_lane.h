// simd.h and augment/lanes.h as a thread of a GPU has them: a vector of one lane, a plain number.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#define SSLK_INLINE __host__ __device__ __forceinline__

namespace sslk {

template <class T>
using Vec = T;
template <class T>
using Lane = T;
template <class T>
constexpr int kLanes = 1;
template <class T>
using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
template <class T>
using Index = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;

template <class T>
SSLK_INLINE T load(const T* p) {
  return *p;
}
template <class T>
SSLK_INLINE void store(T* p, T x) {
  *p = x;
}
template <class T>
SSLK_INLINE T broadcast(T x) {
  return x;
}

// b where either is NaN.
template <class T>
SSLK_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}
template <class T>
SSLK_INLINE T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
SSLK_INLINE T clamp(T x, T lo, T hi) {
  return smaller(hi, larger(lo, x));
}

template <class T>
SSLK_INLINE T absolute(T x) {
  return std::bit_cast<T>(std::bit_cast<Bits<T>>(x) & (~Bits<T>(0) >> 1));
}
// y where x has no minus sign, else -y.
template <class T>
SSLK_INLINE T negated_as(T x, T y) {
  return std::bit_cast<T>(std::bit_cast<Bits<T>>(y) ^
                          (std::bit_cast<Bits<T>>(x) & ~(~Bits<T>(0) >> 1)));
}
// Nothing is fused here anyway: see flags.py.
template <class T>
SSLK_INLINE T rounded(T x) {
  return x;
}

template <class T>
SSLK_INLINE Index<T> lane_numbers() {
  return 0;
}
template <class T>
SSLK_INLINE T gather(const T* from, Index<T> at) {
  return from[at];
}
template <class T>
SSLK_INLINE T to_float(Index<T> i) {
  return T(i);
}
template <class T>
SSLK_INLINE Index<T> truncated(T x) {
  return Index<T>(x);
}

}  // namespace sslk
