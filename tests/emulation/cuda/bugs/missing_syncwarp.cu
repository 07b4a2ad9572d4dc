__global__ void reverse(const float* in, float* out) {
  __shared__ float row[32];
  row[threadIdx.x] = 0;
  __syncwarp();
  row[threadIdx.x] = in[threadIdx.x];        // BUG: or what comes first of both
  out[threadIdx.x] = row[31 - threadIdx.x];  // BUG: no __syncwarp
}

extern "C" int missing_syncwarp(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, reverse, in, out);
}
