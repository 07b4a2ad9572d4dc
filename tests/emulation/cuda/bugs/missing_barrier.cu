__global__ void reverse(const float* in, float* out) {
  __shared__ float row[64];
  row[threadIdx.x] = 0;
  __syncthreads();
  row[threadIdx.x] = in[threadIdx.x];        // BUG: or what comes first of both
  out[threadIdx.x] = row[threadIdx.x ^ 63];  // BUG: no __syncthreads
}

extern "C" int missing_barrier(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, reverse, in, out);
}
