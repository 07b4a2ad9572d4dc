// A warp's products of 16-bit matrices, and how their operands come out of shared memory:
// instructions that CUDA C++ spells in assembly only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(EMULATED_CUDA)
#include <emulated/matrix.h>
#endif

namespace sslk::device {

// Four 8 x 8 matrices: lane 8 i + r gives the address of row r of matrix i, and receives of each
// the elements 2 (lane % 4) and the next of row lane / 4.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void* row) {
#if defined(EMULATED_CUDA)
  emulated::load_four_matrices(to, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#endif
}

// The same of their transposes.
__device__ __forceinline__ void load_transposed(uint32_t (&to)[4], const void* row) {
#if defined(EMULATED_CUDA)
  emulated::load_four_transposed(to, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
#endif
}

template <class T>
struct Format;

template <>
struct Format<__nv_bfloat16> {
  static __device__ __forceinline__ __nv_bfloat16 rounded(float x) { return __float2bfloat16(x); }
  static __device__ __forceinline__ uint32_t packed(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, 4);
    return bits;
  }
};

template <>
struct Format<__half> {
  static __device__ __forceinline__ __half rounded(float x) { return __float2half(x); }
  static __device__ __forceinline__ uint32_t packed(float low, float high) {
    const __half2 both = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &both, 4);
    return bits;
  }
};

template <>
struct Format<float> {
  static __device__ __forceinline__ float rounded(float x) { return x; }
};

// d += a b^T: a [16, 16], b [8, 16] of T, d [16, 8], spread over the warp as PTX has it: of each 8
// x 8 block a lane has the elements 2 (lane % 4) and the next of row lane / 4. Registers 0 and 1 of
// a are rows 0-7 and 8-15 of columns 0-7, 2 and 3 those of columns 8-15; d has its rows 8-15 in 2
// and 3; b its columns 8-15 in the second.
template <class T>
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b_low,
                                         uint32_t b_high) {
#if defined(EMULATED_CUDA)
  const uint32_t b[2] = {b_low, b_high};
  emulated::multiply_m16n8k16(d, a, b, [](uint16_t bits) { return float(std::bit_cast<T>(bits)); });
#else
  if constexpr (std::is_same_v<T, __half>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_low), "r"(b_high));
  }
#endif
}

// 2^x by the special function unit, within two units in the last place; tiny results become zero.
__device__ __forceinline__ float exp2_of(float x) {
#if defined(EMULATED_CUDA)
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace sslk::device
