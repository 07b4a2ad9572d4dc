// Four floats at once, and single floats `step` apart.
__global__ void copy(const float* in, float* out, int step) {
  const float4 four = reinterpret_cast<const float4*>(in)[threadIdx.x];
  out[threadIdx.x * step] = four.x + four.y + four.z + four.w;
}

extern "C" int scattered(const float* in, float* out, int64_t step) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, copy, in, out, int(step));
}
