// Gradients of log-sum-exps over columns and over rows, and of pairs' logits, from four products.
#include "device_pairs.h"
#include "device_row_gradients.h"

namespace sslk::device {
namespace {

// dq and dk, and the sums; the softmaxes of rows are those of queries.
template <class T>
int add_both(const DeviceLogits& call, const Problem& p, const PairUpstream& upstream,
             const DeviceGradients& out, float* product_sums, float* gradient_sums, void* stream) {
  const BothPasses needed(call);
  if (const int error = run_pass<T, PairGradient>(p, {upstream, product_sums}, needed.of_queries,
                                                  call.dtype, out.dq, gradient_sums, stream)) {
    return error;
  }
  PairUpstream from_keys = upstream;
  std::swap(from_keys.of_rows, from_keys.of_columns);
  from_keys.offset = -upstream.offset;
  return run_pass<T, PairGradient>(transposed(p), {from_keys, nullptr}, needed.of_keys, call.dtype,
                                   out.dk, gradient_sums, stream);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_pairs_gradients_workspace(const sslk::DevicePairs* problem) {
  const sslk::device::BothPasses needed(problem->logits);
  return 2 + needed.of_queries.blocks() + needed.gradient_sums;
}

extern "C" int sslk_cuda_pairs_gradients(const sslk::DevicePairs* problem,
                                         const sslk::DevicePairTerms* grad, const float* row_lse,
                                         const float* column_lse, const sslk::DeviceGradients* out,
                                         float* workspace, void* stream) {
  using namespace sslk::device;
  Problem p;
  if (!make_pairs(*problem, p)) return cudaErrorInvalidValue;
  const sslk::DeviceLogits& logits = problem->logits;
  const int64_t sums = BothPasses(logits).of_queries.blocks();
  float* const product_sums = workspace + 2;
  const bool narrow_range = logits.dtype == sslk::Dtype::kFloat16;
  const float* const unit = narrow_range ? workspace : nullptr;
  if (narrow_range) {
    const Vectors upstream = {
        {{grad->rows, logits.m}, {grad->columns, logits.n}, {grad->pairs, logits.m}}};
    if (const int error = find_unit(upstream, workspace, stream)) return error;
  }
  const PairUpstream upstream = {{grad->rows, row_lse},
                                 {grad->columns, column_lse},
                                 grad->pairs,
                                 unit,
                                 uint32_t(problem->first)};
  const auto add = narrow_range ? add_both<__half> : add_both<__nv_bfloat16>;
  if (const int error = add(logits, p, upstream, *out, product_sums, product_sums + sums, stream)) {
    return error;
  }
  return add_all(product_sums, nullptr, sums, unit, out->dscale, stream);
}
