__global__ void sum(const float* in, float* out) {
  float x = in[threadIdx.x];
  if (x > 8) {
    x += __shfl_xor_sync(0xffffffff, x, 1);  // BUG: not all lanes come here
  }
  __syncthreads();
  out[threadIdx.x] = x;
}

extern "C" int shuffle_in_a_branch(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, sum, in, out);
}
