#include "../device.h"
#include "counted_rows.h"

namespace sslk::device {
namespace {

constexpr int kNumbering = 1024;  // threads: all rows pass through one block

__global__ void __launch_bounds__(kNumbering)
    number_in_one_block(const int64_t* target, uint32_t m, uint32_t n,
                        const __grid_constant__ CountedRows out) {
  constexpr int kWarps = kNumbering / kWarp;
  __shared__ uint32_t of_warp[2][kWarps];  // in turn: what one turn reads the next does not write
  const uint32_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  uint32_t counted = 0;
  bool odd = false;
  for (uint32_t first = 0; first < m; first += kNumbering, odd = !odd) {
    const uint32_t row = first + threadIdx.x;
    const int64_t wanted = row < m ? target[row] : -1;
    require(wanted >= -1 && wanted < int64_t(n), "a target is out of range");
    const uint32_t counting = __ballot_sync(0xffffffff, wanted >= 0);
    if (lane == 0) of_warp[odd][warp] = __popc(counting);
    __syncthreads();
    uint32_t at = counted + __popc(counting & ((1u << lane) - 1));
    for (uint32_t other = 0; other < kWarps; ++other) {
      if (other < warp) at += of_warp[odd][other];
      counted += of_warp[odd][other];
    }
    if (row < m) out.position[row] = wanted >= 0 ? at : kNoRow;
    if (wanted >= 0) out.number[at] = row;
  }
  if (threadIdx.x == 0) *out.count = counted;
}

}  // namespace

int number_rows(const int64_t* target, int64_t m, int64_t n, const CountedRows& out, void* stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(1);
  config.blockDim = dim3(kNumbering);
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, number_in_one_block, target, uint32_t(m), uint32_t(n), out);
}

}  // namespace sslk::device
