__global__ void sum(const float* in, float* out) {
  if (threadIdx.x < 32) {
    atomicAdd(out, in[threadIdx.x]);
  } else {
    out[0] = 0;  // BUG: not atomic
  }
}

extern "C" int plain_and_atomic(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, sum, in, out);
}
