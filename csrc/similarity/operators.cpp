// Log-sum-exps of logits, and what losses need beside them, as torch calls them.
#include <optional>
#include <tuple>
#include <vector>

#include "../tensors.h"
#include "check_operands.h"
#include "cross.h"
#include "fixed_keys.h"
#include "logits_tensors.h"
#include "logsumexp.h"

namespace sslk::operators {  // apart from the kernels, whose names they share
namespace {

Logits logsumexp_problem(const Tensor& q, const std::optional<Tensor>& k, const Tensor& scale,
                         const std::optional<Tensor>& bias, const std::vector<int64_t>& exclude,
                         int64_t precision) {
  Logits problem = logits_problem(q, k, scale, bias, precision);
  problem.exclude = exclude.data();
  problem.excluded = int64_t(exclude.size());
  return problem;
}

Tensor logsumexp_forward(const Tensor& q, const std::optional<Tensor>& k, const Tensor& scale,
                         const std::optional<Tensor>& bias, const std::vector<int64_t>& exclude,
                         int64_t precision) {
  const auto problem = logsumexp_problem(q, k, scale, bias, exclude, precision);
  Tensor lse = torch::stable::new_empty(q, {problem.m}, accumulator_of(problem.dtype));
  with_accumulator(problem.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    sslk::logsumexp_forward<Acc>(problem, data<Acc>(lse));
  });
  return lse;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> logsumexp_backward(
    const Tensor& grad, const Tensor& lse, const Tensor& q, const std::optional<Tensor>& k,
    const Tensor& scale, const std::optional<Tensor>& bias, const std::vector<int64_t>& exclude,
    bool with_dk, int64_t precision) {
  const auto problem = logsumexp_problem(q, k, scale, bias, exclude, precision);
  check_vector(grad, problem.m, problem.dtype, "grad");
  check_vector(lse, problem.m, problem.dtype, "lse");
  auto [dq, dk, dscale, dbias] = new_gradients(problem, q, with_dk);
  const auto run = [&, dq = dq, dk = dk, dscale = dscale, dbias = dbias](auto zero) {
    using Acc = decltype(zero);
    sslk::logsumexp_backward<Acc>(problem, const_data<Acc>(grad), const_data<Acc>(lse),
                                  pointers<Acc>(problem, dq, dk, dscale, dbias));
  };
  with_accumulator(problem.dtype, run);
  return {dq, dk, dscale, dbias};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> weighted_logsumexp_forward(
    const Tensor& q, const std::optional<Tensor>& k, const Tensor& row_weight, const Tensor& scale,
    const std::optional<Tensor>& bias, const std::vector<int64_t>& exclude, int64_t precision) {
  const auto problem = logsumexp_problem(q, k, scale, bias, exclude, precision);
  check_vector(row_weight, problem.m, problem.dtype, "row_weight");
  Tensor value = torch::stable::new_empty(q, {}, accumulator_of(problem.dtype));
  Tensor lse = torch::stable::new_empty(q, {problem.m}, accumulator_of(problem.dtype));
  auto [dq, dk, dscale, dbias] = new_gradients(problem, q);
  const auto run = [&, dq = dq, dk = dk, dscale = dscale, dbias = dbias](auto zero) {
    using Acc = decltype(zero);
    const Acc* weight = const_data<Acc>(row_weight);
    sslk::weighted_logsumexp<Acc>(problem, weight, data<Acc>(lse),
                                  pointers<Acc>(problem, dq, dk, dscale, dbias));
    double sum = 0;
    for (int64_t i = 0; i < problem.m; ++i) sum += double(weight[i]) * const_data<Acc>(lse)[i];
    *data<Acc>(value) = Acc(sum);
  };
  with_accumulator(problem.dtype, run);
  return {value, lse, dq, dk, dscale, dbias};
}

Logits terms_problem(const Tensor& q, const Tensor& k, const Tensor& target, const Tensor& scale,
                     const std::optional<Tensor>& bias, const std::optional<Tensor>& column_weight,
                     double softcap, int64_t precision) {
  Logits problem = logits_problem(q, k, scale, bias, precision);
  STD_TORCH_CHECK(softcap >= 0, "softcap is negative");
  problem.softcap = softcap;
  STD_TORCH_CHECK(target.numel() == problem.m && target.is_contiguous() &&
                      target.scalar_type() == ScalarType::Long,
                  "target is not [m] of int64");
  problem.target = const_data<int64_t>(target);
  for (int64_t i = 0; i < problem.m; ++i) {
    STD_TORCH_CHECK(problem.target[i] >= -1 && problem.target[i] < problem.n, "target of row ", i,
                    " is ", problem.target[i], ", not in [-1, ", problem.n, ")");
  }
  if (column_weight) {
    check_vector(*column_weight, problem.n, problem.dtype, "column_weight");
    problem.column_weight = column_weight->const_data_ptr();
  }
  return problem;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> logit_terms_forward(
    const Tensor& q, const Tensor& k, const Tensor& target, const Tensor& scale,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& column_weight, double softcap,
    int64_t precision) {
  const Logits problem =
      terms_problem(q, k, target, scale, bias, column_weight, softcap, precision);
  Tensor terms[4];
  for (Tensor& each : terms) {
    each = torch::stable::new_empty(q, {problem.m}, accumulator_of(problem.dtype));
  }
  with_accumulator(problem.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    cross_forward<Acc>(problem, {data<Acc>(terms[0]), data<Acc>(terms[1]), data<Acc>(terms[2]),
                                 data<Acc>(terms[3])});
  });
  return {terms[0], terms[1], terms[2], terms[3]};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> logit_terms_backward(
    const Tensor& grad_lse, const Tensor& grad_target, const Tensor& grad_sum, const Tensor& lse,
    const Tensor& q, const Tensor& k, const Tensor& target, const Tensor& scale,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& column_weight, double softcap,
    bool with_dk, int64_t precision) {
  const Logits problem =
      terms_problem(q, k, target, scale, bias, column_weight, softcap, precision);
  check_vector(grad_lse, problem.m, problem.dtype, "grad_lse");
  check_vector(grad_target, problem.m, problem.dtype, "grad_target");
  check_vector(grad_sum, problem.m, problem.dtype, "grad_sum");
  check_vector(lse, problem.m, problem.dtype, "lse");
  auto [dq, dk, dscale, dbias] = new_gradients(problem, q, with_dk);
  const auto run = [&, dq = dq, dk = dk, dscale = dscale, dbias = dbias](auto zero) {
    using Acc = decltype(zero);
    cross_backward<Acc>(
        problem, const_data<Acc>(lse),
        {const_data<Acc>(grad_lse), const_data<Acc>(grad_target), const_data<Acc>(grad_sum)},
        pointers<Acc>(problem, dq, dk, dscale, dbias));
  };
  with_accumulator(problem.dtype, run);
  return {dq, dk, dscale, dbias};
}

std::tuple<Tensor, Tensor> fixed_keys_forward(const Tensor& q, const Tensor& k, const Tensor& scale,
                                              const std::optional<Tensor>& bias,
                                              int64_t precision) {
  const Logits problem = logits_problem(q, k, scale, bias, precision);
  const ScalarType accumulator = accumulator_of(problem.dtype);
  Tensor lse = torch::stable::new_empty(q, {problem.m}, accumulator);
  Tensor mean_key = torch::stable::new_empty(q, {problem.m, problem.d}, accumulator);
  with_accumulator(problem.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    sslk::fixed_keys_forward<Acc>(problem, data<Acc>(lse), data<Acc>(mean_key));
  });
  return {lse, mean_key};
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("logsumexp_forward", TORCH_BOX(&sslk::operators::logsumexp_forward));
  m.impl("logsumexp_backward", TORCH_BOX(&sslk::operators::logsumexp_backward));
  m.impl("weighted_logsumexp_forward", TORCH_BOX(&sslk::operators::weighted_logsumexp_forward));
  m.impl("logit_terms_forward", TORCH_BOX(&sslk::operators::logit_terms_forward));
  m.impl("logit_terms_backward", TORCH_BOX(&sslk::operators::logit_terms_backward));
  m.impl("fixed_keys_forward", TORCH_BOX(&sslk::operators::fixed_keys_forward));
}
