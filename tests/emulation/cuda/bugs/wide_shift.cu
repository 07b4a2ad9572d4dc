__global__ void shift(const float* in, float* out) {
  out[threadIdx.x] = float(1u << int(in[threadIdx.x]));  // BUG: by up to 63
}

extern "C" int wide_shift(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, shift, in, out);
}
