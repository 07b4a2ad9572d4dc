// Gradients of the log-sum-exps. The rows of a block are queries for dq, keys for dk, and both
// where the keys are the queries.
#include "device_gradient.h"
#include "device_row_gradients.h"

namespace sslk::device {
namespace {

struct Workspace : BothPasses {
  int64_t product_sums, bias_sums;

  explicit Workspace(const DeviceLogits& call)
      : BothPasses(call),
        product_sums(of_queries.blocks()),
        bias_sums(call.bias ? of_keys.shares.lines * call.n : 0) {}

  int64_t floats() const { return 2 + product_sums + bias_sums + gradient_sums; }
};

// dq and dk, and the sums as far as there is room for them.
template <class T>
int add_both(const DeviceLogits& call, const Problem& p, const Upstream& upstream,
             const GradientSums& sums, const DeviceGradients& out, float* gradient_sums,
             void* stream) {
  const BothPasses needed(call);
  if (!call.k) {
    return run_pass<T, LogitGradient<Side::kBoth>>(p, {upstream, sums}, needed.of_queries,
                                                   call.dtype, out.dq, gradient_sums, stream);
  }
  if (const int error = run_pass<T, LogitGradient<Side::kQueries>>(
          p, {upstream, {nullptr, sums.of_products}}, needed.of_queries, call.dtype, out.dq,
          gradient_sums, stream)) {
    return error;
  }
  if (!out.dk && !sums.of_bias) return cudaSuccess;
  return run_pass<T, LogitGradient<Side::kKeys>>(p, {upstream, {sums.of_bias, nullptr}},
                                                 needed.of_keys, call.dtype, out.dk, gradient_sums,
                                                 stream);
}

}  // namespace
}  // namespace sslk::device

extern "C" int64_t sslk_cuda_logsumexp_gradients_workspace(const sslk::DeviceLogits* problem) {
  return sslk::device::Workspace(*problem).floats();
}

extern "C" int sslk_cuda_logsumexp_gradients(const sslk::DeviceLogits* problem, const float* grad,
                                             const float* lse, const sslk::DeviceGradients* out,
                                             float* workspace, void* stream) {
  using namespace sslk::device;
  Problem p;
  if (!make_problem(*problem, p)) return cudaErrorInvalidValue;
  const Workspace needed(*problem);
  float* const unit = workspace;
  float* const product_sums = unit + 2;
  float* const bias_sums = product_sums + needed.product_sums;
  float* const gradient_sums = bias_sums + needed.bias_sums;
  const bool narrow_range = problem->dtype == sslk::Dtype::kFloat16;
  const Upstream upstream = {{grad, lse}, narrow_range ? unit : nullptr};
  if (narrow_range) {
    if (const int error = find_unit({{grad, problem->m}}, unit, stream)) return error;
  }
  const GradientSums sums = {out->dbias ? bias_sums : nullptr, product_sums};
  const auto add = narrow_range ? add_both<__half> : add_both<__nv_bfloat16>;
  if (const int error = add(*problem, p, upstream, sums, *out, gradient_sums, stream)) return error;
  if (out->dbias) {
    if (const int error = add_lines(bias_sums, needed.of_keys.shares.lines, problem->n,
                                    upstream.unit, sslk::Dtype::kFloat32, out->dbias, stream)) {
      return error;
    }
  }
  return add_all(product_sums, nullptr, needed.product_sums, upstream.unit, out->dscale, stream);
}
