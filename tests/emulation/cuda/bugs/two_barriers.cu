__global__ void copy(const float* in, float* out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
  } else {
    __syncthreads();  // BUG: not the one that the others wait at
  }
}

extern "C" int two_barriers(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, copy, in, out);
}
