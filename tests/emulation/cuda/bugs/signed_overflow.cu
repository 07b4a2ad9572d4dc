__global__ void scale(const float* in, float* out) {
  const int large = int(in[threadIdx.x]) + 2147483640;  // BUG
  out[threadIdx.x] = float(large);
}

extern "C" int signed_overflow(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, scale, in, out);
}
