__global__ void neighbour(const float* in, float* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __shfl_sync(0x0000ffff, in[threadIdx.x], 16);  // BUG: lane 16 is not here
  }
}

extern "C" int shuffle_outside_mask(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, neighbour, in, out);
}
