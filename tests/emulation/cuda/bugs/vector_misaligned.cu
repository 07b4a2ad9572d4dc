__global__ void copy(const float* in, float* out) {
  const float4 four = *reinterpret_cast<const float4*>(in + threadIdx.x);  // BUG
  out[threadIdx.x] = four.x;
}

extern "C" int vector_misaligned(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, copy, in, out);
}
