// The engine's operators as torch calls them.
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../pooled.h"
#include "../rows.h"
#include "../tensors.h"
#include "check_operands.h"
#include "cross.h"
#include "cross_blocks.h"
#include "cross_pairs.h"
#include "cross_sigmoid.h"
#include "fixed_keys.h"
#include "logsumexp.h"
#include "symmetric.h"
#include "unit_rows.h"

namespace sslk::operators {  // apart from the kernels, whose names they share
namespace {

// Rows of the dtype of `like`, to be written to.
Tensor new_rows(const Tensor& like, int64_t rows, int64_t d) {
  return new_pooled(like, {rows, d}, like.scalar_type(), element_size(dtype_of(like, "rows")));
}

Symmetric nt_xent_problem(const Tensor& z1, const Tensor& z2, const Tensor& scale, bool normalize,
                          bool decoupled, int64_t precision) {
  check_matrix(z1, "z1");
  check_matrix(z2, "z2");
  STD_TORCH_CHECK(z1.size(0) == z2.size(0) && z1.size(1) == z2.size(1) && z1.size(0) > 0 &&
                      z1.size(1) > 0 && z1.scalar_type() == z2.scalar_type(),
                  "z1 and z2 are not two views of one batch");
  const Views views{z1.const_data_ptr(), z2.const_data_ptr(), dtype_of(z1, "z1"), z1.size(0),
                    z1.size(1)};
  return {views,     scalar_of(scale, "scale"), normalize, /*exclude_self=*/true,
          decoupled, precision_of(precision)};
}

template <class Acc>
Acc reduced_loss(const std::vector<Acc>& rows, const std::string& reduction) {
  double sum = 0;
  for (Acc row : rows) sum += row;
  return Acc(reduction == "mean" ? sum / double(rows.size()) : sum);
}

std::tuple<Tensor, Tensor, Tensor> nt_xent_forward(const Tensor& z1, const Tensor& z2,
                                                   const Tensor& scale, bool normalize,
                                                   bool decoupled, const std::string& reduction,
                                                   int64_t precision) {
  const auto problem = nt_xent_problem(z1, z2, scale, normalize, decoupled, precision);
  const int64_t m = problem.views.rows();
  const ScalarType accumulator = accumulator_of(problem.views.dtype);
  const bool reduced = reduction != "none";
  Tensor row_stat = torch::stable::new_empty(z1, {2, m}, accumulator);
  Tensor inv_norm = torch::stable::new_empty(z1, {normalize ? m : 0}, accumulator);
  Tensor loss = reduced ? torch::stable::new_empty(z1, {}, accumulator)
                        : torch::stable::new_empty(z1, {m}, accumulator);
  with_accumulator(problem.views.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    std::vector<Acc> rows(reduced ? m : 0);
    Acc* target = reduced ? rows.data() : data<Acc>(loss);
    sslk::symmetric_forward<Acc>(problem, {target, data<Acc>(row_stat), data<Acc>(inv_norm)});
    if (!reduced) return;
    *data<Acc>(loss) = reduced_loss(rows, reduction);
  });
  return {loss, row_stat, inv_norm};
}

std::tuple<Tensor, Tensor, Tensor> nt_xent_backward(const Tensor& grad, const Tensor& row_stat,
                                                    const Tensor& inv_norm, const Tensor& z1,
                                                    const Tensor& z2, const Tensor& scale,
                                                    bool normalize, bool decoupled,
                                                    const std::string& reduction,
                                                    int64_t precision) {
  const auto problem = nt_xent_problem(z1, z2, scale, normalize, decoupled, precision);
  const int64_t m = problem.views.rows();
  const ScalarType accumulator = accumulator_of(problem.views.dtype);
  const bool reduced = reduction != "none";
  STD_TORCH_CHECK(grad.scalar_type() == accumulator && grad.is_contiguous() &&
                      grad.numel() == (reduced ? 1 : m),
                  "grad does not fit the loss");
  STD_TORCH_CHECK(row_stat.numel() == 2 * m && inv_norm.numel() == (normalize ? m : 0),
                  "row_stat or inv_norm is not of this forward");
  Tensor dz1 = new_rows(z1, problem.views.n, problem.views.d);
  Tensor dz2 = new_rows(z1, problem.views.n, problem.views.d);
  Tensor dscale = torch::stable::new_empty(z1, {}, accumulator);
  with_accumulator(problem.views.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    const Acc factor = reduction == "mean" ? Acc(1) / Acc(m) : Acc(1);
    sslk::symmetric_backward<Acc>(problem, {{const_data<Acc>(grad), reduced ? 0 : 1, factor},
                                            const_data<Acc>(row_stat),
                                            nullptr,
                                            const_data<Acc>(inv_norm),
                                            dz1.mutable_data_ptr(),
                                            dz2.mutable_data_ptr(),
                                            data<Acc>(dscale)});
  });
  return {dz1, dz2, dscale};
}

// The loss and its gradients for an upstream gradient of 1.
std::tuple<Tensor, Tensor, Tensor, Tensor> nt_xent_forward_backward(
    const Tensor& z1, const Tensor& z2, const Tensor& scale, bool normalize, bool decoupled,
    const std::string& reduction, int64_t precision) {
  STD_TORCH_CHECK(reduction != "none", "there is no one gradient of a loss for each row");
  const auto problem = nt_xent_problem(z1, z2, scale, normalize, decoupled, precision);
  const int64_t m = problem.views.rows();
  const ScalarType accumulator = accumulator_of(problem.views.dtype);
  Tensor loss = torch::stable::new_empty(z1, {}, accumulator);
  Tensor dz1 = new_rows(z1, problem.views.n, problem.views.d);
  Tensor dz2 = new_rows(z1, problem.views.n, problem.views.d);
  Tensor dscale = torch::stable::new_empty(z1, {}, accumulator);
  with_accumulator(problem.views.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    std::vector<Acc> rows(m);
    const Acc factor = reduction == "mean" ? Acc(1) / Acc(m) : Acc(1);
    const Acc one = 1;
    sslk::symmetric_forward_backward<Acc>(problem, {{&one, 0, factor},
                                                    rows.data(),
                                                    dz1.mutable_data_ptr(),
                                                    dz2.mutable_data_ptr(),
                                                    data<Acc>(dscale)});
    *data<Acc>(loss) = reduced_loss(rows, reduction);
  });
  return {loss, dz1, dz2, dscale};
}

Logits logits_problem(const Tensor& q, const std::optional<Tensor>& k, const Tensor& scale,
                      const std::optional<Tensor>& bias, int64_t precision) {
  const Dtype dtype = check_operands(q, k);
  const int64_t n = k ? k->size(0) : q.size(0);
  STD_TORCH_CHECK(n < (int64_t(1) << 31) - kBlockColumns, "k has 2^31 rows or more");
  Logits problem{q.const_data_ptr(),
                 k ? k->const_data_ptr() : nullptr,
                 dtype,
                 q.size(0),
                 n,
                 q.size(1),
                 scalar_of(scale, "scale"),
                 precision_of(precision)};
  if (bias) {
    check_vector(*bias, n, dtype, "bias");
    problem.bias = bias->const_data_ptr();
  }
  return problem;
}

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

// Fresh dq, dk, dscale, dbias; absent arguments, and keys that want none, get empty gradients.
std::tuple<Tensor, Tensor, Tensor, Tensor> new_gradients(const Logits& problem, const Tensor& q,
                                                         bool with_dk = true) {
  const ScalarType accumulator = accumulator_of(problem.dtype);
  const int64_t key_rows = problem.k != nullptr && with_dk ? problem.n : 0;
  return {new_rows(q, problem.m, problem.d), new_rows(q, key_rows, problem.d),
          torch::stable::new_empty(q, {}, accumulator),
          torch::stable::new_empty(q, {problem.bias != nullptr ? problem.n : 0}, accumulator)};
}

template <class Acc>
LogitGradients<Acc> pointers(const Logits& problem, const Tensor& dq, const Tensor& dk,
                             const Tensor& dscale, const Tensor& dbias) {
  return {dq.mutable_data_ptr(), dk.numel() != 0 ? dk.mutable_data_ptr() : nullptr, problem.dtype,
          data<Acc>(dscale), problem.bias != nullptr ? data<Acc>(dbias) : nullptr};
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

std::tuple<Tensor, Tensor> unit_rows_forward(const Tensor& x) {
  check_matrix(x, "x");
  const Dtype dtype = dtype_of(x, "x");
  Tensor z = new_rows(x, x.size(0), x.size(1));
  Tensor inv_norm = torch::stable::new_empty(x, {x.size(0)}, accumulator_of(dtype));
  with_accumulator(dtype, [&](auto zero) {
    using Acc = decltype(zero);
    sslk::unit_rows_forward<Acc>(x.const_data_ptr(), dtype, x.size(0), x.size(1),
                                 z.mutable_data_ptr(), data<Acc>(inv_norm));
  });
  return {z, inv_norm};
}

Tensor unit_rows_backward(const Tensor& grad, const Tensor& x, const Tensor& inv_norm) {
  check_matrix(x, "x");
  check_matrix(grad, "grad");
  const Dtype dtype = dtype_of(x, "x");
  STD_TORCH_CHECK(grad.size(0) == x.size(0) && grad.size(1) == x.size(1) &&
                      grad.scalar_type() == x.scalar_type(),
                  "grad does not fit x");
  check_vector(inv_norm, x.size(0), dtype, "inv_norm");
  Tensor dx = new_rows(x, x.size(0), x.size(1));
  with_accumulator(dtype, [&](auto zero) {
    using Acc = decltype(zero);
    sslk::unit_rows_backward<Acc>(grad.const_data_ptr(), x.const_data_ptr(),
                                  const_data<Acc>(inv_norm), dtype, x.size(0), x.size(1),
                                  dx.mutable_data_ptr());
  });
  return dx;
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("nt_xent_forward", TORCH_BOX(&sslk::operators::nt_xent_forward));
  m.impl("nt_xent_backward", TORCH_BOX(&sslk::operators::nt_xent_backward));
  m.impl("nt_xent_forward_backward", TORCH_BOX(&sslk::operators::nt_xent_forward_backward));
  m.impl("logsumexp_forward", TORCH_BOX(&sslk::operators::logsumexp_forward));
  m.impl("logsumexp_backward", TORCH_BOX(&sslk::operators::logsumexp_backward));
  m.impl("logit_terms_forward", TORCH_BOX(&sslk::operators::logit_terms_forward));
  m.impl("logit_terms_backward", TORCH_BOX(&sslk::operators::logit_terms_backward));
  m.impl("weighted_logsumexp_forward", TORCH_BOX(&sslk::operators::weighted_logsumexp_forward));
  m.impl("unit_rows_forward", TORCH_BOX(&sslk::operators::unit_rows_forward));
  m.impl("unit_rows_backward", TORCH_BOX(&sslk::operators::unit_rows_backward));
  m.impl("fixed_keys_forward", TORCH_BOX(&sslk::operators::fixed_keys_forward));
  m.impl("pair_terms_forward", TORCH_BOX(&sslk::operators::pair_terms_forward));
  m.impl("pair_terms_backward", TORCH_BOX(&sslk::operators::pair_terms_backward));
  m.impl("sigmoid_loss_forward", TORCH_BOX(&sslk::operators::sigmoid_loss_forward));
  m.impl("sigmoid_loss_forward_backward",
         TORCH_BOX(&sslk::operators::sigmoid_loss_forward_backward));
}
