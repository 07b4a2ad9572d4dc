// Losses of pairs among all logits as torch calls them: CLIP both ways, SigLIP.
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "../pooled.h"
#include "../tensors.h"
#include "check_operands.h"
#include "cross_pairs.h"
#include "cross_sigmoid.h"
#include "logits_tensors.h"

namespace sslk::operators {  // apart from the kernels, whose names they share
namespace {

// Row i of q and row `first` + i of k are a pair: `pairs` has these.
Logits pair_problem(const Tensor& q, const Tensor& k, const Tensor& scale, int64_t first,
                    std::vector<int64_t>& pairs, int64_t precision) {
  Logits problem = logits_problem(q, k, scale, {}, precision);
  STD_TORCH_CHECK(first >= 0 && first + problem.m <= problem.n, "rows of q have no pair in k");
  pairs.resize(problem.m);
  std::iota(pairs.begin(), pairs.end(), first);
  problem.target = pairs.data();
  return problem;
}

std::tuple<Tensor, Tensor, Tensor> pair_terms_forward(const Tensor& q, const Tensor& k,
                                                      const Tensor& scale, int64_t first,
                                                      int64_t precision) {
  std::vector<int64_t> pairs;
  const Logits problem = pair_problem(q, k, scale, first, pairs, precision);
  const ScalarType accumulator = accumulator_of(problem.dtype);
  Tensor row_lse = torch::stable::new_empty(q, {problem.m}, accumulator);
  Tensor column_lse = torch::stable::new_empty(q, {problem.n}, accumulator);
  Tensor pair_logit = torch::stable::new_empty(q, {problem.m}, accumulator);
  with_accumulator(problem.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    pair_forward<Acc>(problem, {data<Acc>(row_lse), data<Acc>(column_lse), data<Acc>(pair_logit)});
  });
  return {row_lse, column_lse, pair_logit};
}

std::tuple<Tensor, Tensor, Tensor> pair_terms_backward(
    const Tensor& grad_row, const Tensor& grad_column, const Tensor& grad_pair,
    const Tensor& row_lse, const Tensor& column_lse, const Tensor& q, const Tensor& k,
    const Tensor& scale, int64_t first, int64_t precision) {
  std::vector<int64_t> pairs;
  const Logits problem = pair_problem(q, k, scale, first, pairs, precision);
  check_vector(grad_row, problem.m, problem.dtype, "grad_row");
  check_vector(grad_column, problem.n, problem.dtype, "grad_column");
  check_vector(grad_pair, problem.m, problem.dtype, "grad_pair");
  check_vector(row_lse, problem.m, problem.dtype, "row_lse");
  check_vector(column_lse, problem.n, problem.dtype, "column_lse");
  auto [dq, dk, dscale, dbias] = new_gradients(problem, q);
  const auto run = [&, dq = dq, dk = dk, dscale = dscale, dbias = dbias](auto zero) {
    using Acc = decltype(zero);
    pair_backward<Acc>(
        problem, const_data<Acc>(row_lse), const_data<Acc>(column_lse),
        {const_data<Acc>(grad_row), const_data<Acc>(grad_column), const_data<Acc>(grad_pair)},
        pointers<Acc>(problem, dq, dk, dscale, dbias));
  };
  with_accumulator(problem.dtype, run);
  return {dq, dk, dscale};
}

// As above, but from row n of k on there is no pair.
Logits sigmoid_problem(const Tensor& q, const Tensor& k, const Tensor& scale, int64_t first,
                       std::vector<int64_t>& pairs, int64_t precision) {
  constexpr int64_t kNowhere = std::numeric_limits<int32_t>::max();
  Logits problem = logits_problem(q, k, scale, {}, precision);
  STD_TORCH_CHECK(first >= 0, "first is negative");
  pairs.resize(problem.m);
  for (int64_t i = 0; i < problem.m; ++i) pairs[i] = first < problem.n - i ? first + i : kNowhere;
  problem.target = pairs.data();
  return problem;
}

Tensor sigmoid_loss_forward(const Tensor& q, const Tensor& k, const Tensor& scale,
                            const Tensor& bias, int64_t first, const std::string& reduction,
                            int64_t precision) {
  std::vector<int64_t> pairs;
  const Logits problem = sigmoid_problem(q, k, scale, first, pairs, precision);
  Tensor value = torch::stable::new_empty(q, {}, accumulator_of(problem.dtype));
  with_accumulator(problem.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    sigmoid_forward<Acc>(problem, scalar_of(bias, "bias"), row_weight(problem.m, reduction),
                         data<Acc>(value));
  });
  return value;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> sigmoid_loss_forward_backward(
    const Tensor& q, const Tensor& k, const Tensor& scale, const Tensor& bias, int64_t first,
    const std::string& reduction, int64_t precision) {
  std::vector<int64_t> pairs;
  const Logits problem = sigmoid_problem(q, k, scale, first, pairs, precision);
  const ScalarType accumulator = accumulator_of(problem.dtype);
  // Elements of the gradient of float16 are too small for it until a loss scaler's factor is in.
  const bool widened = problem.dtype == Dtype::kFloat16;
  const ScalarType stored = widened ? accumulator : q.scalar_type();
  Tensor value = torch::stable::new_empty(q, {}, accumulator);
  const int64_t bytes = widened ? sizeof(float) : element_size(problem.dtype);
  Tensor dq = new_pooled(q, {problem.m, problem.d}, stored, bytes);
  Tensor dk = new_pooled(q, {problem.n, problem.d}, stored, bytes);
  Tensor dscale = torch::stable::new_empty(q, {}, accumulator);
  Tensor dbias = torch::stable::new_empty(q, {}, accumulator);
  with_accumulator(problem.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    LogitGradients<Acc> out{dq.mutable_data_ptr(), dk.mutable_data_ptr(),
                            widened ? Dtype::kFloat32 : problem.dtype, data<Acc>(dscale)};
    out.weight = row_weight(problem.m, reduction);
    sigmoid_forward_backward<Acc>(problem, scalar_of(bias, "bias"), data<Acc>(value),
                                  data<Acc>(dbias), out);
  });
  return {value, dq, dk, dscale, dbias};
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("pair_terms_forward", TORCH_BOX(&sslk::operators::pair_terms_forward));
  m.impl("pair_terms_backward", TORCH_BOX(&sslk::operators::pair_terms_backward));
  m.impl("sigmoid_loss_forward", TORCH_BOX(&sslk::operators::sigmoid_loss_forward));
  m.impl("sigmoid_loss_forward_backward",
         TORCH_BOX(&sslk::operators::sigmoid_loss_forward_backward));
}
