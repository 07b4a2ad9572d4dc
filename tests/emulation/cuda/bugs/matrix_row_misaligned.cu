#include "emulated/matrix.h"

__global__ void load(const float* in, float* out) {
  __shared__ __align__(16) float tile[32 * 5];
  for (int i = 0; i < 5; ++i) tile[32 * i + threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  uint32_t registers[4];
  emulated::load_four_matrices(registers, tile + 5 * threadIdx.x);  // BUG: rows of 20 bytes
  out[threadIdx.x] = float(registers[0]);
}

extern "C" int matrix_row_misaligned(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, load, in, out);
}
