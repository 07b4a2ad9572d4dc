__global__ void mixed(const float* in, float* out) {
  if (threadIdx.x % 2) {
    out[threadIdx.x] = __shfl_sync(0xffffffff, in[threadIdx.x], 0);  // BUG
  } else {
    out[threadIdx.x] = __any_sync(0xffffffff, in[threadIdx.x] > 0);  // BUG
  }
}

extern "C" int vote_against_shuffle(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, mixed, in, out);
}
