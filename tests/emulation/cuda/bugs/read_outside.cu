__global__ void shift(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x + 65];  // BUG
}

extern "C" int read_outside(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, shift, in, out);
}
