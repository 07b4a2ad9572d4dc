__global__ void copy(const float* in, float* out) {
  float* const row = static_cast<float*>(emulated::dynamic_shared());
  row[threadIdx.x] = in[threadIdx.x];  // BUG: it has 60 elements
  out[threadIdx.x] = row[threadIdx.x];
}

extern "C" int too_little_dynamic_shared(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 64, 60 * sizeof(float)};
  return cudaLaunchKernelEx(&config, copy, in, out);
}
