// Normalised rows as torch calls them.
#include <tuple>

#include "../tensors.h"
#include "logits_tensors.h"
#include "unit_rows.h"

namespace sslk::operators {  // apart from the kernels, whose names they share
namespace {

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
  m.impl("unit_rows_forward", TORCH_BOX(&sslk::operators::unit_rows_forward));
  m.impl("unit_rows_backward", TORCH_BOX(&sslk::operators::unit_rows_backward));
}
