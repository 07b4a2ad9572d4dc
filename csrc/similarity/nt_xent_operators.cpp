// NT-Xent as torch calls it.
#include <string>
#include <tuple>
#include <vector>

#include "../pooled.h"
#include "../rows.h"
#include "../tensors.h"
#include "logits_tensors.h"
#include "symmetric.h"

namespace sslk::operators {  // apart from the kernels, whose names they share
namespace {

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

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("nt_xent_forward", TORCH_BOX(&sslk::operators::nt_xent_forward));
  m.impl("nt_xent_backward", TORCH_BOX(&sslk::operators::nt_xent_backward));
  m.impl("nt_xent_forward_backward", TORCH_BOX(&sslk::operators::nt_xent_forward_backward));
}
