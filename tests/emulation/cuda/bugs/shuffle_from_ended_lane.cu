__global__ void neighbour(const float* in, float* out) {
  if (threadIdx.x >= 20) return;
  out[threadIdx.x] = __shfl_down_sync(0xffffffff, in[threadIdx.x], 1);  // BUG: lanes have left
}

extern "C" int shuffle_from_ended_lane(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, neighbour, in, out);
}
