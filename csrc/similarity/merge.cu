#include "device_both_ways.h"
#include "merge.h"

namespace sslk::device {
namespace {

__global__ void __launch_bounds__(kThreads)
    merge_rows(const float* partial, uint32_t m, uint32_t lines, uint32_t run, float* lse) {
  const uint32_t row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= m) return;
  if (run) {
    const uint32_t block = row / kTallRows, tiles = tiles_of(m) - 2 * block;
    lines = block + (tiles + run - 1) / run;
  }
  ExponentialSum sum;
  for (uint32_t i = 0; i < lines; ++i) sum.add({partial[int64_t(i) * m + row], 1});
  lse[row] = sum.log2() * kLogOf2;
}

}  // namespace

int merge_lines(const float* partial, int64_t count, int64_t lines, int64_t run, float* lse,
                void* stream) {
  if (count == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(divided_up(count, kThreads)));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, merge_rows, partial, uint32_t(count), uint32_t(lines),
                            uint32_t(run), lse);
}

}  // namespace sslk::device
