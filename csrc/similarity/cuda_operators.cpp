// The engine on a GPU as torch calls it: losses of bfloat16 and float16 rows.
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../cuda_tensors.h"
#include "cuda_problem.h"

namespace sslk::operators {
namespace {

Tensor forward(const char* op, const DeviceLogits& problem, const Tensor& q) {
  const CurrentDevice device(q);
  const Tensor lse = floats(q, {problem.m});
  const Tensor workspace = floats(q, {sslk_cuda_logsumexp_workspace(&problem)});
  check_launch(
      sslk_cuda_logsumexp(&problem, data<float>(lse), data<float>(workspace), device.stream()), op);
  return lse;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const char* op, const DeviceLogits& problem,
                                                    const Tensor& grad, const Tensor& lse,
                                                    const Tensor& q, bool with_dk) {
  check_vector(grad, problem.m, problem.dtype, "grad");
  check_vector(lse, problem.m, problem.dtype, "lse");
  with_dk &= problem.k != nullptr;
  const CurrentDevice device(q);
  const Tensor dq = torch::stable::new_empty(q, {problem.m, problem.d});
  const Tensor dk = torch::stable::new_empty(q, {with_dk ? problem.n : 0, problem.d});
  const Tensor dscale = floats(q, {}), dbias = floats(q, {problem.bias ? problem.n : 0});
  const Tensor workspace = floats(q, {sslk_cuda_logsumexp_gradients_workspace(&problem)});
  const DeviceGradients out = {dq.mutable_data_ptr(), with_dk ? dk.mutable_data_ptr() : nullptr,
                               data<float>(dscale), problem.bias ? data<float>(dbias) : nullptr};
  check_launch(
      sslk_cuda_logsumexp_gradients(&problem, const_data<float>(grad), const_data<float>(lse), &out,
                                    data<float>(workspace), device.stream()),
      op);
  return {dq, dk, dscale, dbias};
}

Tensor logsumexp_forward(const Tensor& q, const std::optional<Tensor>& k, const Tensor& scale,
                         const std::optional<Tensor>& bias, const std::vector<int64_t>& exclude,
                         int64_t /*precision*/) {
  return forward("logsumexp", problem_of("logsumexp", q, k, scale, bias, exclude), q);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> logsumexp_backward(
    const Tensor& grad, const Tensor& lse, const Tensor& q, const std::optional<Tensor>& k,
    const Tensor& scale, const std::optional<Tensor>& bias, const std::vector<int64_t>& exclude,
    bool with_dk, int64_t /*precision*/) {
  const DeviceLogits problem = problem_of("logsumexp", q, k, scale, bias, exclude);
  return backward("logsumexp", problem, grad, lse, q, with_dk);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> weighted_logsumexp_forward(
    const Tensor& q, const std::optional<Tensor>& k, const Tensor& row_weight, const Tensor& scale,
    const std::optional<Tensor>& bias, const std::vector<int64_t>& exclude, int64_t /*precision*/) {
  const char* const op = "weighted_logsumexp";
  const DeviceLogits problem = problem_of(op, q, k, scale, bias, exclude);
  const Tensor lse = forward(op, problem, q);
  auto [dq, dk, dscale, dbias] = backward(op, problem, row_weight, lse, q, true);
  const CurrentDevice device(q);
  const Tensor value = floats(q, {});
  check_launch(sslk_cuda_dot(const_data<float>(row_weight), const_data<float>(lse), problem.m,
                             data<float>(value), device.stream()),
               op);
  return {value, lse, dq, dk, dscale, dbias};
}

DeviceSigmoid sigmoid_problem(const Tensor& q, const Tensor& k, const Tensor& scale,
                              const Tensor& bias, int64_t first, const std::string& reduction) {
  const DeviceLogits logits = problem_of("sigmoid_loss", q, k, scale, std::nullopt, {});
  check_vector(bias, 1, logits.dtype, "bias");
  STD_TORCH_CHECK(first >= 0, "first is negative");
  return {logits, const_data<float>(bias), first, float(row_weight(logits.m, reduction))};
}

Tensor sigmoid_loss_forward(const Tensor& q, const Tensor& k, const Tensor& scale,
                            const Tensor& bias, int64_t first, const std::string& reduction,
                            int64_t /*precision*/) {
  const DeviceSigmoid problem = sigmoid_problem(q, k, scale, bias, first, reduction);
  const CurrentDevice device(q);
  const Tensor value = floats(q, {});
  const Tensor workspace = floats(q, {sslk_cuda_sigmoid_workspace(&problem)});
  check_launch(
      sslk_cuda_sigmoid(&problem, data<float>(value), data<float>(workspace), device.stream()),
      "sigmoid_loss");
  return value;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> sigmoid_loss_forward_backward(
    const Tensor& q, const Tensor& k, const Tensor& scale, const Tensor& bias, int64_t first,
    const std::string& reduction, int64_t /*precision*/) {
  const DeviceSigmoid problem = sigmoid_problem(q, k, scale, bias, first, reduction);
  const CurrentDevice device(q);
  const bool widened = problem.logits.dtype == Dtype::kFloat16;
  const ScalarType stored = widened ? ScalarType::Float : q.scalar_type();
  const Tensor dq = torch::stable::new_empty(q, {q.size(0), q.size(1)}, stored);
  const Tensor dk = torch::stable::new_empty(k, {k.size(0), k.size(1)}, stored);
  const Tensor value = floats(q, {}), dscale = floats(q, {}), dbias = floats(q, {});
  const Tensor workspace = floats(q, {sslk_cuda_sigmoid_gradients_workspace(&problem)});
  const DeviceGradients out = {dq.mutable_data_ptr(), dk.mutable_data_ptr(), data<float>(dscale),
                               data<float>(dbias)};
  check_launch(sslk_cuda_sigmoid_gradients(&problem, data<float>(value), &out,
                                           data<float>(workspace), device.stream()),
               "sigmoid_loss");
  return {value, dq, dk, dscale, dbias};
}

DevicePairs pair_problem(const Tensor& q, const Tensor& k, const Tensor& scale, int64_t first) {
  const DeviceLogits logits = problem_of("pair_terms", q, k, scale, std::nullopt, {});
  STD_TORCH_CHECK(first >= 0 && first <= logits.n - logits.m, "rows of q have no pair in k");
  return {logits, first};
}

std::tuple<Tensor, Tensor, Tensor> pair_terms_forward(const Tensor& q, const Tensor& k,
                                                      const Tensor& scale, int64_t first,
                                                      int64_t /*precision*/) {
  const DevicePairs problem = pair_problem(q, k, scale, first);
  const CurrentDevice device(q);
  const Tensor row_lse = floats(q, {problem.logits.m}), column_lse = floats(q, {problem.logits.n});
  const Tensor pair_logit = floats(q, {problem.logits.m});
  const Tensor workspace = floats(q, {sslk_cuda_pairs_workspace(&problem)});
  check_launch(sslk_cuda_pairs(&problem, data<float>(row_lse), data<float>(column_lse),
                               data<float>(pair_logit), data<float>(workspace), device.stream()),
               "pair_terms");
  return {row_lse, column_lse, pair_logit};
}

std::tuple<Tensor, Tensor, Tensor> pair_terms_backward(
    const Tensor& grad_row, const Tensor& grad_column, const Tensor& grad_pair,
    const Tensor& row_lse, const Tensor& column_lse, const Tensor& q, const Tensor& k,
    const Tensor& scale, int64_t first, int64_t /*precision*/) {
  const DevicePairs problem = pair_problem(q, k, scale, first);
  const auto& [m, n, dtype] = std::tuple(problem.logits.m, problem.logits.n, problem.logits.dtype);
  check_vector(grad_row, m, dtype, "grad_row");
  check_vector(grad_column, n, dtype, "grad_column");
  check_vector(grad_pair, m, dtype, "grad_pair");
  check_vector(row_lse, m, dtype, "row_lse");
  check_vector(column_lse, n, dtype, "column_lse");
  const CurrentDevice device(q);
  const Tensor dq = torch::stable::new_empty(q, {m, q.size(1)});
  const Tensor dk = torch::stable::new_empty(k, {n, k.size(1)}), dscale = floats(q, {});
  const Tensor workspace = floats(q, {sslk_cuda_pairs_gradients_workspace(&problem)});
  const DevicePairTerms grad = {const_data<float>(grad_row), const_data<float>(grad_column),
                                const_data<float>(grad_pair)};
  const DeviceGradients out = {dq.mutable_data_ptr(), dk.mutable_data_ptr(), data<float>(dscale),
                               nullptr};
  check_launch(sslk_cuda_pairs_gradients(&problem, &grad, const_data<float>(row_lse),
                                         const_data<float>(column_lse), &out,
                                         data<float>(workspace), device.stream()),
               "pair_terms");
  return {dq, dk, dscale};
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CUDA, m) {
  m.impl("logsumexp_forward", TORCH_BOX(&sslk::operators::logsumexp_forward));
  m.impl("logsumexp_backward", TORCH_BOX(&sslk::operators::logsumexp_backward));
  m.impl("weighted_logsumexp_forward", TORCH_BOX(&sslk::operators::weighted_logsumexp_forward));
  m.impl("sigmoid_loss_forward", TORCH_BOX(&sslk::operators::sigmoid_loss_forward));
  m.impl("sigmoid_loss_forward_backward",
         TORCH_BOX(&sslk::operators::sigmoid_loss_forward_backward));
  m.impl("pair_terms_forward", TORCH_BOX(&sslk::operators::pair_terms_forward));
  m.impl("pair_terms_backward", TORCH_BOX(&sslk::operators::pair_terms_backward));
}
