// A tile of 32 x 32 through shared memory, whose rows are `stride` long.
template <int kStride>
__global__ void transpose(const float* in, float* out) {
  __shared__ float tile[32 * kStride];
  for (int y = 0; y < 32; ++y) tile[y * kStride + threadIdx.x] = in[32 * y + threadIdx.x];
  __syncthreads();
  for (int y = 0; y < 32; ++y) out[32 * y + threadIdx.x] = tile[threadIdx.x * kStride + y];
}

extern "C" int transposed_32(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, transpose<32>, in, out);
}
extern "C" int transposed_33(const float* in, float* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, transpose<33>, in, out);
}
