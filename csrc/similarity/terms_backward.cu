// Gradients of what a cross entropy needs of each row that counts: of these rows, then of the keys.
#include "counted_pass.h"
#include "device_term_gradients.h"
#include "softmaxes.h"
#include "sums.h"

namespace sslk::device {
namespace {

__global__ void __launch_bounds__(kThreads)
    gather_upstream(const __grid_constant__ CountedRows rows, uint32_t m, const int64_t* target,
                    const float* lse, const __grid_constant__ DeviceRowTermGradients grad,
                    float4* grads, uint2* targets) {
  const uint32_t at = blockIdx.x * kThreads + threadIdx.x;
  if (at >= m) return;
  if (at >= *rows.count) {  // find_unit sees them all
    grads[at] = make_float4(0, 0, 0, 0);
    return;
  }
  const uint32_t row = rows.number[at];
  grads[at] = make_float4(grad.lse[row], grad.target_logit[row], grad.weighted_sum[row], 0);
  targets[at] = make_uint2(__float_as_uint(shift_of(lse[row])), uint32_t(target[row]));
}

struct GradientOut {
  void* gradient;
  float *gradient_sums, *bias, *bias_sums, *product_sums;
};

template <class T, Side kRows, bool kCapped>
__global__ void __launch_bounds__(kThreads, 2)
    add_term_gradients(const __grid_constant__ Problem p, const __grid_constant__ Terms terms,
                       const __grid_constant__ CountedRows rows,
                       const __grid_constant__ TermUpstream upstream,
                       const __grid_constant__ CountedPass pass,
                       const __grid_constant__ GradientOut out) {
  const Shares shares = pass.shares();
  if (blockIdx.x >= shares.blocks * shares.lines) {
    if (kRows == Side::kQueries && threadIdx.x == 0) out.product_sums[blockIdx.x] = 0;
    return;
  }
  const GatheredMatrix q = rows.of(p.q);
  const Portion own(shares, blockIdx.x, kRows == Side::kQueries ? p.k.rows : q.rows);
  const bool whole = shares.lines == 1;
  const RowResults results = {whole ? out.gradient : nullptr,
                              !whole && out.gradient ? out.gradient_sums : nullptr};
  const TermGradientSums sums = {whole ? out.bias : out.bias_sums, out.product_sums};
  const uint32_t first_row = own.block * kGradientRows;
  TermGradient<kRows, kCapped> weights(p, terms, upstream, sums, q.rows, first_row);
  if constexpr (kRows == Side::kQueries) {
    add_block_gradients<T>(weights, p.scale, q, p.k, first_row, own.line, own.first_tile, own.tiles,
                           results);
  } else {
    add_block_gradients<T>(weights, p.scale, p.k, q, first_row, own.line, own.first_tile, own.tiles,
                           results);
  }
}

// What lines have left behind becomes rows of out [rows, width]; with `position`, zeros where a row
// does not count.
template <class T>
__global__ void __launch_bounds__(kThreads)
    finish_rows(const __grid_constant__ CountedPass pass, const float* parts, uint32_t rows,
                const uint32_t* position, uint32_t width, T* out) {
  const uint32_t pieces = (width + kThreads - 1) / kThreads;
  const uint32_t row = blockIdx.x / pieces, i = blockIdx.x % pieces * kThreads + threadIdx.x;
  if (i >= width) return;
  const uint32_t at = position ? position[row] : row;
  T& result = out[int64_t(row) * width + i];
  if (at == kNoRow) {
    result = Format<T>::rounded(0);
    return;
  }
  const uint32_t lines = pass.shares().lines;
  if (lines == 1) return;  // it is there
  const int64_t of_line = int64_t(position ? *pass.count : rows) * width;
  float sum = 0;
  for (uint32_t line = 0; line < lines; ++line) {
    sum += parts[line * of_line + int64_t(at) * width + i];
  }
  result = Format<T>::rounded(sum);
}

cudaLaunchConfig_t blocks_of(int64_t x, int64_t y, void* stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(x), unsigned(y));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  return config;
}

template <class T>
int finish(const CountedPass& pass, const float* parts, int64_t rows, const uint32_t* position,
           int64_t width, void* out, void* stream) {
  if (rows == 0 || !out || (!position && pass.most_lines() == 1)) return cudaSuccess;
  const auto config = blocks_of(rows * divided_up(width, kThreads), 1, stream);
  return cudaLaunchKernelEx(&config, finish_rows<T>, pass, parts, uint32_t(rows), position,
                            uint32_t(width), static_cast<T*>(out));
}

template <class T, Side kRows>
int run_pass(const Problem& p, const Terms& terms, const CountedRows& rows,
             const TermUpstream& upstream, const CountedPass& pass, const GradientOut& out,
             void* stream) {
  if (pass.most_blocks() == 0) return cudaSuccess;
  auto config = blocks_of(pass.most_blocks(), pass.slices(), stream);
  config.dynamicSmemBytes = ChunkStream<T, 1>::kSharedBytes;
  const auto add =
      terms.cap > 0 ? add_term_gradients<T, kRows, true> : add_term_gradients<T, kRows, false>;
  return cudaLaunchKernelEx(&config, add, p, terms, rows, upstream, pass, out);
}

// Where what lies in it, in floats.
struct Workspace {
  CountedPass of_queries, of_keys;
  int64_t targets, rows, unit, product_sums, bias_sums, gradient_sums, floats;

  explicit Workspace(const DeviceLogits& call, const uint32_t* count = nullptr)
      : of_queries{count, call.m, call.n, call.d, Side::kQueries},
        of_keys{count, call.m, call.n, call.d, Side::kKeys},
        targets(4 * call.m),
        rows(targets + 2 * call.m),
        unit(rows + CountedRows::floats(call.m)),
        product_sums(unit + 2),
        bias_sums(product_sums + of_queries.most_blocks()),
        gradient_sums(bias_sums + (call.bias ? of_keys.most_lines() * call.n : 0)),
        floats(gradient_sums + std::max(of_queries.gradient_sums(), of_keys.gradient_sums())) {}
};

template <class T>
int add_both(const DeviceLogits& call, const Problem& p, const Terms& terms,
             const CountedRows& rows, const TermUpstream& upstream, const DeviceGradients& out,
             float* workspace, void* stream) {
  const Workspace needed(call, rows.count);
  float* const product_sums = workspace + needed.product_sums;
  float* const bias_sums = workspace + needed.bias_sums;
  float* const sums = workspace + needed.gradient_sums;
  const CountedPass &queries = needed.of_queries, &keys = needed.of_keys;
  const GradientOut of_queries = {out.dq, sums, nullptr, nullptr, product_sums};
  if (const int error =
          run_pass<T, Side::kQueries>(p, terms, rows, upstream, queries, of_queries, stream)) {
    return error;
  }
  if (const int error = finish<T>(queries, sums, call.m, rows.position, call.d, out.dq, stream)) {
    return error;
  }
  if (out.dk || out.dbias) {
    const GradientOut of_keys = {out.dk, sums, out.dbias, out.dbias ? bias_sums : nullptr, nullptr};
    if (const int error =
            run_pass<T, Side::kKeys>(p, terms, rows, upstream, keys, of_keys, stream)) {
      return error;
    }
    if (const int error = finish<T>(keys, sums, call.n, nullptr, call.d, out.dk, stream)) {
      return error;
    }
    if (const int error = finish<float>(keys, bias_sums, 1, nullptr, call.n, out.dbias, stream)) {
      return error;
    }
  }
  return add_all(product_sums, nullptr, queries.most_blocks(), nullptr, out.dscale, stream);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_terms_gradients_workspace(const sslk::DeviceTerms* problem) {
  return sslk::device::Workspace(problem->logits).floats;
}

extern "C" int sslk_cuda_terms_gradients(const sslk::DeviceTerms* problem,
                                         const sslk::DeviceRowTermGradients* grad, const float* lse,
                                         const sslk::DeviceGradients* out, float* workspace,
                                         void* stream) {
  using namespace sslk::device;
  Problem p;
  Terms terms;
  if (!make_terms(*problem, p, terms)) return cudaErrorInvalidValue;
  const sslk::DeviceLogits& logits = problem->logits;
  const Workspace needed(logits);
  const CountedRows rows = CountedRows::in(workspace + needed.rows, logits.m);
  float4* const grads = reinterpret_cast<float4*>(workspace);
  uint2* const targets = reinterpret_cast<uint2*>(workspace + needed.targets);
  const bool narrow_range = logits.dtype == sslk::Dtype::kFloat16;
  float* const unit = narrow_range ? workspace + needed.unit : nullptr;
  if (const int error = number_rows(terms.target, logits.m, logits.n, rows, stream)) return error;
  if (logits.m > 0) {
    const auto config = blocks_of(divided_up(logits.m, kThreads), 1, stream);
    if (const int error = cudaLaunchKernelEx(&config, gather_upstream, rows, p.q.rows, terms.target,
                                             lse, *grad, grads, targets)) {
      return error;
    }
  }
  if (narrow_range) {
    if (const int error = find_unit({{workspace, 4 * logits.m}}, unit, stream)) return error;
  }
  const auto add = narrow_range ? add_both<__half> : add_both<__nv_bfloat16>;
  return add(logits, p, terms, rows, {grads, targets, unit}, *out, workspace, stream);
}
