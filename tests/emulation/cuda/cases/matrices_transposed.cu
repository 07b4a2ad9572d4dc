// The transposes of four 8 x 8 matrices [4, 8, 8], two elements of a row in a word.
__global__ void turn(const uint16_t* in, uint32_t* out) {
  __shared__ __align__(16) uint16_t rows[32 * 8];
  const int lane = threadIdx.x;
  for (int i = 0; i < 8; ++i) rows[8 * lane + i] = in[8 * lane + i];
  __syncwarp();
  uint32_t words[4];
  emulated::load_four_transposed(words, rows + 8 * lane);
  for (int i = 0; i < 4; ++i) out[32 * i + lane] = words[i];
}

extern "C" int matrices_transposed(const uint16_t* in, uint32_t* out) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, turn, in, out);
}
