#include "../device.h"
#include "cuda.h"
#include "sums.h"
#include "warp_matrix.h"

namespace sslk::device {
namespace {

constexpr int kThreads = 256;
constexpr int kBitsAboveUnit = 10, kSmallestUnit = -120;

template <class T>
__global__ void __launch_bounds__(kThreads)
    add_lines_of(const float* parts, int64_t lines, int64_t count, const float* factor, T* out) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
  for (int64_t line = 0; line < lines; ++line) sum += parts[line * count + i];
  out[i] = Format<T>::rounded(sum * (factor ? *factor : 1));
}

__global__ void __launch_bounds__(kThreads)
    add_in_one_block(const float* a, const float* b, int64_t count, const float* factor,
                     float* out) {
  __shared__ double partial[kThreads / kWarp];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += b ? double(a[i]) * b[i] : a[i];
  const double total = block_sum(sum, partial);
  if (threadIdx.x == 0) *out = float(total * (factor ? *factor : 1));
}

__global__ void __launch_bounds__(kThreads)
    find_unit_in_one_block(const __grid_constant__ Vectors x, float* unit) {
  __shared__ float of_warp[kThreads / kWarp];
  float largest = 0;
  for (const auto& [values, count] : x.each) {
    for (int64_t i = threadIdx.x; i < count; i += kThreads) {
      largest = fmaxf(largest, fabsf(values[i]));
    }
  }
  for (int step = kWarp / 2; step; step /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, step));
  }
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = largest;
  __syncthreads();
  for (float other : of_warp) largest = fmaxf(largest, other);
  if (threadIdx.x != 0) return;
  const int exponent = largest > 0 ? max(ilogbf(largest) - kBitsAboveUnit, kSmallestUnit) : 0;
  unit[0] = scalbnf(1, exponent);
  unit[1] = 1 / unit[0];
}

cudaLaunchConfig_t one_block(void* stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  return config;
}

}  // namespace

int add_lines(const float* parts, int64_t lines, int64_t count, const float* factor, Dtype dtype,
              void* out, void* stream) {
  if (count == 0) return cudaSuccess;
  cudaLaunchConfig_t config = one_block(stream);
  config.gridDim = dim3(unsigned((count + kThreads - 1) / kThreads));
  const auto launch = [&](auto* typed) {
    using T = std::remove_pointer_t<decltype(typed)>;
    return cudaLaunchKernelEx(&config, add_lines_of<T>, parts, lines, count, factor, typed);
  };
  switch (dtype) {
    case Dtype::kBFloat16:
      return launch(static_cast<__nv_bfloat16*>(out));
    case Dtype::kFloat16:
      return launch(static_cast<__half*>(out));
    default:
      return launch(static_cast<float*>(out));
  }
}

int add_all(const float* a, const float* b, int64_t count, const float* factor, float* out,
            void* stream) {
  const cudaLaunchConfig_t config = one_block(stream);
  return cudaLaunchKernelEx(&config, add_in_one_block, a, b, count, factor, out);
}

int find_unit(const Vectors& x, float* unit, void* stream) {
  const cudaLaunchConfig_t config = one_block(stream);
  return cudaLaunchKernelEx(&config, find_unit_in_one_block, x, unit);
}

}  // namespace sslk::device

extern "C" int sslk_cuda_dot(const float* a, const float* b, int64_t count, float* out,
                             void* stream) {
  return sslk::device::add_all(a, b, count, nullptr, out, stream);
}
