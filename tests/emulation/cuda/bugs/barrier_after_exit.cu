__global__ void copy(const float* in, float* out) {
  if (threadIdx.x >= 40) return;
  out[threadIdx.x] = in[threadIdx.x];
  __syncthreads();  // BUG: some threads have left
}

extern "C" int barrier_after_exit(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, copy, in, out);
}
