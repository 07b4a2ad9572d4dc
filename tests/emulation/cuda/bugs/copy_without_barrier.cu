#include <cuda_pipeline.h>

__global__ void reverse(const float* in, float* out) {
  __shared__ __align__(16) float row[64];
  row[threadIdx.x] = 0;
  __syncthreads();
  const unsigned i = 4 * threadIdx.x;
  if (i < 64) __pipeline_memcpy_async(row + i, in + i, 16);  // BUG: or what comes first of both
  __pipeline_commit();
  __pipeline_wait_prior(0);
  const float mirrored = row[63 - threadIdx.x];  // BUG: all waited for their own copies alone
  out[threadIdx.x] = mirrored;
}

extern "C" int copy_without_barrier(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, reverse, in, out);
}
