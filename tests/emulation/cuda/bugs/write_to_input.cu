__global__ void clear(float* in) {
  in[threadIdx.x] = 0;  // BUG
}

extern "C" int write_to_input(const float* in, float*) {
  const cudaLaunchConfig_t config = {1, 64};
  return cudaLaunchKernelEx(&config, clear, const_cast<float*>(in));
}
