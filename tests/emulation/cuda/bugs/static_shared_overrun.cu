__global__ void shift(const float* in, float* out) {
  __shared__ float row[64];
  row[threadIdx.x + 1] = in[threadIdx.x];  // BUG: the last goes beyond
  __syncthreads();
  out[threadIdx.x] = row[threadIdx.x];
}

extern "C" int static_shared_overrun(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, shift, in, out);
}
