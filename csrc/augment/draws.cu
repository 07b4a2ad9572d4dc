// Rows of draws: a thread for each.
#include <algorithm>

#include "cuda.h"
#include "draw_row.h"

namespace sslk::augment {
namespace {

constexpr int kThreads = 64;

// A policy, which lies in the memory of the host, travels with the launch.
struct Numbers {
  double of[kNumbers];
};

__global__ void __launch_bounds__(kThreads)
    draw_view(const int64_t* sample_ids, int64_t batch, const Numbers numbers, uint32_t view,
              uint64_t seed, uint32_t epoch, int64_t height, int64_t width, float* rows) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= batch) return;
  const Words words(seed, epoch, uint64_t(sample_ids[i]), view);
  draw_row(words, numbers.of, height, width, rows + i * kRowLength);
}

}  // namespace
}  // namespace sslk::augment

extern "C" int sslk_cuda_augment_draws(const int64_t* sample_ids, int64_t batch,
                                       const double* numbers, int64_t views, uint64_t seed,
                                       int64_t epoch, int64_t height, int64_t width, float* rows,
                                       void* stream) {
  using namespace sslk::augment;
  const int64_t blocks = (batch + kThreads - 1) / kThreads;
  if (blocks > 0x7fffffff) return cudaErrorInvalidConfiguration;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  for (int64_t view = 0; blocks && view < views; ++view) {
    Numbers policy;
    std::copy_n(numbers + view * kNumbers, kNumbers, policy.of);
    const cudaError_t error =
        cudaLaunchKernelEx(&config, draw_view, sample_ids, batch, policy, uint32_t(view), seed,
                           uint32_t(epoch), height, width, rows + view * batch * kRowLength);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
