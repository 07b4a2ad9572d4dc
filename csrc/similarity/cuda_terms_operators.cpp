// `logit_terms` on a GPU as torch calls it.
#include <tuple>

#include "cuda_problem.h"

namespace sslk::operators {
namespace {

constexpr const char* kOp = "logit_terms";

DeviceTerms terms_problem(const Tensor& q, const Tensor& k, const Tensor& target,
                          const Tensor& scale, const std::optional<Tensor>& bias,
                          const std::optional<Tensor>& column_weight, double softcap) {
  const DeviceLogits logits = problem_of(kOp, q, k, scale, bias, {});
  STD_TORCH_CHECK(softcap >= 0, "softcap is negative");
  STD_TORCH_CHECK(target.numel() == logits.m && target.is_contiguous() &&
                      target.scalar_type() == ScalarType::Long,
                  "target is not [m] of int64");
  if (column_weight) check_vector(*column_weight, logits.n, logits.dtype, "column_weight");
  return {logits, const_data<int64_t>(target),
          column_weight ? const_data<float>(*column_weight) : nullptr, softcap};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> logit_terms_forward(
    const Tensor& q, const Tensor& k, const Tensor& target, const Tensor& scale,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& column_weight, double softcap,
    int64_t /*precision*/) {
  const DeviceTerms problem = terms_problem(q, k, target, scale, bias, column_weight, softcap);
  const CurrentDevice device(q);
  Tensor terms[4];
  for (Tensor& each : terms) each = floats(q, {problem.logits.m});
  const Tensor workspace = floats(q, {sslk_cuda_terms_workspace(&problem)});
  const DeviceRowTerms out = {data<float>(terms[0]), data<float>(terms[1]), data<float>(terms[2]),
                              data<float>(terms[3])};
  check_launch(sslk_cuda_terms(&problem, &out, data<float>(workspace), device.stream()), kOp);
  return {terms[0], terms[1], terms[2], terms[3]};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> logit_terms_backward(
    const Tensor& grad_lse, const Tensor& grad_target, const Tensor& grad_sum, const Tensor& lse,
    const Tensor& q, const Tensor& k, const Tensor& target, const Tensor& scale,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& column_weight, double softcap,
    bool with_dk, int64_t /*precision*/) {
  const DeviceTerms problem = terms_problem(q, k, target, scale, bias, column_weight, softcap);
  const int64_t m = problem.logits.m, n = problem.logits.n, d = problem.logits.d;
  const Dtype dtype = problem.logits.dtype;
  check_vector(grad_lse, m, dtype, "grad_lse");
  check_vector(grad_target, m, dtype, "grad_target");
  check_vector(grad_sum, m, dtype, "grad_sum");
  check_vector(lse, m, dtype, "lse");
  const CurrentDevice device(q);
  const Tensor dq = torch::stable::new_empty(q, {m, d});
  const Tensor dk = torch::stable::new_empty(k, {with_dk ? n : 0, d});
  const Tensor dscale = floats(q, {}), dbias = floats(q, {bias ? n : 0});
  const Tensor workspace = floats(q, {sslk_cuda_terms_gradients_workspace(&problem)});
  const DeviceRowTermGradients grad = {const_data<float>(grad_lse), const_data<float>(grad_target),
                                       const_data<float>(grad_sum)};
  const DeviceGradients out = {dq.mutable_data_ptr(), with_dk ? dk.mutable_data_ptr() : nullptr,
                               data<float>(dscale), bias ? data<float>(dbias) : nullptr};
  check_launch(sslk_cuda_terms_gradients(&problem, &grad, const_data<float>(lse), &out,
                                         data<float>(workspace), device.stream()),
               kOp);
  return {dq, dk, dscale, dbias};
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CUDA, m) {
  m.impl("logit_terms_forward", TORCH_BOX(&sslk::operators::logit_terms_forward));
  m.impl("logit_terms_backward", TORCH_BOX(&sslk::operators::logit_terms_backward));
}
