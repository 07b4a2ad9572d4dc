// c [16, 8] = a [16, 32] b^T, b [8, 32], two steps of mma behind a double buffer of cp.async.
struct Bfloat16 {
  static float widened(uint16_t bits) { return float(std::bit_cast<__nv_bfloat16>(bits)); }
};
struct Float16 {
  static float widened(uint16_t bits) { return float(std::bit_cast<__half>(bits)); }
};

// Row i of a and of b lies in buffer i / 16; 8 halves of padding keep rows out of each other's
// banks.
constexpr int kRow = 16 + 8;

template <class Format>
__global__ void product(const uint16_t* a, const uint16_t* b, float* c) {
  __shared__ __align__(16) uint16_t rows[2][24 * kRow];
  const int lane = threadIdx.x;
  const auto fetch = [&](int step) {
    for (int i = lane; i < 24 * 2; i += 32) {
      const int row = i / 2, part = i % 2 * 8;
      const uint16_t* const from = row < 16 ? a + 32 * row : b + 32 * (row - 16);
      __pipeline_memcpy_async(&rows[step][row * kRow + part], from + 16 * step + part, 16);
    }
    __pipeline_commit();
  };
  fetch(0);
  float sum[4] = {};
  for (int step = 0; step < 2; ++step) {
    if (step == 0) fetch(1);
    __pipeline_wait_prior(step == 0 ? 1 : 0);
    __syncwarp();
    const uint16_t* const tile = rows[step];
    uint32_t left[4], both[4];
    emulated::load_four_matrices(left, tile + lane % 16 * kRow + lane / 16 * 8);
    emulated::load_four_matrices(both, tile + (16 + lane % 8) * kRow + lane / 8 % 2 * 8);
    const uint32_t right[2] = {both[0], both[1]};
    emulated::multiply_m16n8k16(sum, left, right, Format::widened);
  }
  float* const to = c + lane / 4 * 8 + lane % 4 * 2;
  *reinterpret_cast<float2*>(to) = make_float2(sum[0], sum[1]);
  *reinterpret_cast<float2*>(to + 64) = make_float2(sum[2], sum[3]);
}

extern "C" int product_bfloat16(const uint16_t* a, const uint16_t* b, float* c) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, product<Bfloat16>, a, b, c);
}
extern "C" int product_float16(const uint16_t* a, const uint16_t* b, float* c) {
  const cudaLaunchConfig_t config = {1, 32};
  return cudaLaunchKernelEx(&config, product<Float16>, a, b, c);
}
