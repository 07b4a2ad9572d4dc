#include <cuda_pipeline.h>

__global__ void copy(const float* in, float* out) {
  __shared__ __align__(16) float row[68];
  __pipeline_memcpy_async(row + threadIdx.x, in + threadIdx.x, 16);  // BUG
  __pipeline_commit();
  __pipeline_wait_prior(0);
  out[threadIdx.x] = row[threadIdx.x];
}

extern "C" int copy_misaligned(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, copy, in, out);
}
