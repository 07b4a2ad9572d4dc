__global__ void sum(const float* in, float* out) {
  out[threadIdx.x] = out[threadIdx.x] + in[threadIdx.x];  // BUG: every block does
}

extern "C" int two_blocks_write(const float* in, float* out) {
  const cudaLaunchConfig_t config = {2, 32};
  return cudaLaunchKernelEx(&config, sum, in, out);
}
