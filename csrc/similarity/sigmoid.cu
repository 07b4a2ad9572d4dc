// A logistic loss of every query and key, and its gradients. The value alone takes one product;
// with the gradients it comes from the logits of the queries' pass: four.
#include "device_row_gradients.h"
#include "device_sigmoid.h"

namespace sslk::device {
namespace {

constexpr int kRowTiles = 2;
constexpr uint32_t kRows = 64 * kRowTiles;

// partial [lines, blocks]: the sums of their tiles.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    add_losses(const __grid_constant__ Problem p, const __grid_constant__ Sigmoid sigmoid,
               uint32_t tiles_each, float* partial) {
  const uint32_t first_row = blockIdx.x * kRows, first_tile = blockIdx.y * tiles_each;
  const uint32_t tiles = min(tiles_each, tiles_of(p.k.rows) - first_tile);
  ChunkStream<T, kRowTiles> stream(dynamic_shared<uint16_t>(), p.q, p.k, first_row,
                                   first_tile * kColumns, tiles);
  LossSum<2 * kRowTiles> losses;
  for (uint32_t i = 0; i < tiles; ++i) {
    Tile<kRowTiles> tile;
    stream.multiply_chunks(tile);
    each_logit<true>(tile, p, sigmoid, first_row, (first_tile + i) * kColumns,
                     [&](float&, float x, float, int h) { losses.add(x, fraction(x), h); });
    losses.close();
  }
  __syncthreads();  // the rows that lie there have been read
  const float sum = block_sum(losses.total(), dynamic_shared<float>()) * sigmoid.weight;
  if (threadIdx.x == 0) partial[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

Shares shares_of(const DeviceLogits& call) { return {call.m, call.n, kRows}; }

template <class T>
cudaError_t add_all_losses(const Problem& p, const Sigmoid& sigmoid, const Shares& shares,
                           float* partial, void* stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(shares.blocks), unsigned(shares.lines));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = ChunkStream<T, kRowTiles>::kSharedBytes;
  config.stream = static_cast<cudaStream_t>(stream);
  return cudaLaunchKernelEx(&config, add_losses<T>, p, sigmoid, uint32_t(shares.tiles_each),
                            partial);
}

// dq and dk, and the sums.
template <class T>
int add_both(const DeviceLogits& call, const Problem& p, const Sigmoid& sigmoid,
             const DeviceGradients& out, float* sums, float* gradient_sums, void* stream) {
  const BothPasses needed(call);
  const Dtype dtype = call.dtype == Dtype::kFloat16 ? Dtype::kFloat32 : call.dtype;
  if (const int error = run_pass<T, SigmoidGradient<T, Side::kQueries>>(
          p, {sigmoid, sums}, needed.of_queries, dtype, out.dq, gradient_sums, stream)) {
    return error;
  }
  return run_pass<T, SigmoidGradient<T, Side::kKeys>>(p, {sigmoid, nullptr}, needed.of_keys, dtype,
                                                      out.dk, gradient_sums, stream);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_sigmoid_workspace(const sslk::DeviceSigmoid* problem) {
  const auto shares = sslk::device::shares_of(problem->logits);
  return shares.blocks * shares.lines;
}

extern "C" int sslk_cuda_sigmoid(const sslk::DeviceSigmoid* problem, float* value, float* workspace,
                                 void* stream) {
  using namespace sslk::device;
  Problem p;
  Sigmoid sigmoid;
  if (!make_sigmoid(*problem, p, sigmoid)) return cudaErrorInvalidValue;
  const Shares shares = shares_of(problem->logits);
  if (shares.blocks > 0) {
    const bool wide_range = problem->logits.dtype == sslk::Dtype::kBFloat16;
    const auto add = wide_range ? add_all_losses<__nv_bfloat16> : add_all_losses<__half>;
    if (const int error = add(p, sigmoid, shares, workspace, stream)) return error;
  }
  return add_all(workspace, nullptr, shares.blocks * shares.lines, nullptr, value, stream);
}

extern "C" int64_t sslk_cuda_sigmoid_gradients_workspace(const sslk::DeviceSigmoid* problem) {
  const sslk::device::BothPasses needed(problem->logits);
  return 3 * needed.of_queries.blocks() + needed.gradient_sums;
}

extern "C" int sslk_cuda_sigmoid_gradients(const sslk::DeviceSigmoid* problem, float* value,
                                           const sslk::DeviceGradients* out, float* workspace,
                                           void* stream) {
  using namespace sslk::device;
  Problem p;
  Sigmoid sigmoid;
  if (!make_sigmoid(*problem, p, sigmoid)) return cudaErrorInvalidValue;
  const int64_t each = BothPasses(problem->logits).of_queries.blocks();
  const bool wide_range = problem->logits.dtype == sslk::Dtype::kBFloat16;
  const auto add = wide_range ? add_both<__nv_bfloat16> : add_both<__half>;
  if (const int error =
          add(problem->logits, p, sigmoid, *out, workspace, workspace + 3 * each, stream)) {
    return error;
  }
  float* const totals[] = {value, out->dbias, out->dscale};
  for (int64_t kind = 0; kind < 3; ++kind) {
    if (const int error =
            add_all(workspace + kind * each, nullptr, each, nullptr, totals[kind], stream)) {
      return error;
    }
  }
  return cudaSuccess;
}
