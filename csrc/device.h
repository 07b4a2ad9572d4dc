// What kernels of every room need: of a block its dynamic shared memory and sums over its threads,
// of the device how many multiprocessors it has.
#pragma once

#include <cassert>
#include <cstdint>

namespace sslk::device {

constexpr int kWarp = 32;

// Ends the kernel, and with it the process's use of the device, where a caller's values are wrong.
__device__ __forceinline__ void require(bool holds, const char* what) {
#if defined(EMULATED_CUDA)
  if (!holds) emulated::fail("Assertion", what, EMULATED_WHERE);
#else
  assert(holds && what);
#endif
}

// Aligned to 16 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
#if defined(EMULATED_CUDA)
  return static_cast<T*>(emulated::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char sslk_dynamic_shared[];
  return reinterpret_cast<T*>(sslk_dynamic_shared);
#endif
}

// The sum over a block of whole warps, always in the same order; to every thread. partial: one for
// each warp, not in use by anybody.
template <class T>
__device__ T block_sum(T x, T* partial) {
  for (int step = kWarp / 2; step; step /= 2) x += __shfl_xor_sync(0xffffffff, x, step);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = x;
  __syncthreads();
  T total = 0;
  for (unsigned warp = 0; warp < blockDim.x / kWarp; ++warp) total += partial[warp];
  __syncthreads();
  return total;
}

// How many multiprocessors the current device has; returns a cudaError_t.
inline int count_processors(int& count) {
  int device = 0;
  if (const int code = cudaGetDevice(&device)) return code;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
}

}  // namespace sslk::device
