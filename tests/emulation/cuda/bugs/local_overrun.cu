__global__ void rotate(const float* in, float* out) {
  float four[4];
  for (int i = 0; i < 4; ++i) four[i] = in[i];
  const int at = int(in[threadIdx.x]);
  out[threadIdx.x] = four[at];  // BUG: at goes up to 63
}

extern "C" int local_overrun(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, rotate, in, out);
}
