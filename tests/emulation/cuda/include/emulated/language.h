// Words of CUDA C++ that are no functions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
// Blocks run one after another, so that a static is shared by the threads of a block alone.
#define __shared__ static

namespace emulated {

template <uint3 (*kOf)(), unsigned uint3::* kAxis>
struct Coordinate {
  EMULATED_UNSEEN operator unsigned() const { return kOf().*kAxis; }
};
template <uint3 (*kOf)()>
struct Coordinates {
  Coordinate<kOf, &uint3::x> x;
  Coordinate<kOf, &uint3::y> y;
  Coordinate<kOf, &uint3::z> z;
};

}  // namespace emulated

// Objects and no macros, since fields of cudaLaunchConfig_t have such names too.
inline constexpr emulated::Coordinates<emulated::thread_index> threadIdx{};
inline constexpr emulated::Coordinates<emulated::block_index> blockIdx{};
inline constexpr emulated::Coordinates<emulated::block_size> blockDim{};
inline constexpr emulated::Coordinates<emulated::grid_size> gridDim{};
#define warpSize 32

#define EMULATED_VECTORS(T, name, bytes2, bytes4)            \
  struct alignas(bytes2) name##2 { T x, y; };                \
  struct alignas(bytes4) name##4 { T x, y, z, w; };          \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

EMULATED_VECTORS(float, float, 8, 16)
EMULATED_VECTORS(int, int, 8, 16)
EMULATED_VECTORS(unsigned, uint, 8, 16)
EMULATED_VECTORS(unsigned char, uchar, 2, 4)
EMULATED_VECTORS(double, double, 16, 16)
#undef EMULATED_VECTORS

using std::max;
using std::min;

// Loads and stores with a hint for the caches.
template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
inline void __stcs(T* p, T value) {
  *p = value;
}

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }

// One block runs at a time, and its threads in turn: fences have nothing to order.
inline void __threadfence() {}
inline void __threadfence_block() {}
