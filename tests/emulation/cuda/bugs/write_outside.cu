__global__ void copy(const float* in, float* out) {
  out[threadIdx.x] = in[threadIdx.x];  // BUG: there are more threads than elements
}

extern "C" int write_outside(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 96};
  return cudaLaunchKernelEx(&config, copy, in, out);
}
