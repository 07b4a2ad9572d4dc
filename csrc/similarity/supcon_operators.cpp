// SupCon as torch calls it.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "../tensors.h"
#include "classes.h"
#include "logits_tensors.h"
#include "symmetric.h"

namespace sslk::operators {  // apart from the kernels, whose names they share
namespace {

// The loss and its gradients for an upstream gradient of 1.
std::tuple<Tensor, Tensor, Tensor> supcon_forward_backward(const Tensor& z, const Tensor& labels,
                                                           const Tensor& scale, bool normalize,
                                                           const std::string& reduction,
                                                           int64_t precision) {
  check_matrix(z, "z");
  const int64_t m = z.size(0), d = z.size(1);
  STD_TORCH_CHECK(m > 0 && d > 0, "z is empty");
  STD_TORCH_CHECK(
      labels.scalar_type() == ScalarType::Long && labels.is_contiguous() && labels.numel() == m,
      "labels are not an int64 for each row");
  STD_TORCH_CHECK(reduction != "none", "there is no one gradient of a loss for each row");
  const Views views{z.const_data_ptr(), nullptr, dtype_of(z, "z"), m, d};
  // A single row would be left without a column; it does not count.
  const Symmetric problem{views,
                          scalar_of(scale, "scale"),
                          normalize,
                          /*exclude_self=*/m > 1,
                          /*exclude_partner=*/false,
                          precision_of(precision)};
  const ScalarType accumulator = accumulator_of(views.dtype);
  Tensor loss = torch::stable::new_empty(z, {}, accumulator);
  Tensor dz = new_rows(z, m, d);
  Tensor dscale = torch::stable::new_empty(z, {}, accumulator);
  with_accumulator(views.dtype, [&](auto zero) {
    using Acc = decltype(zero);
    Classes<Acc> classes(problem, const_data<int64_t>(labels));
    const double share = reduction == "mean" ? 1.0 / double(std::max<int64_t>(1, classes.members()))
                                             : 1.0;  // of the loss that a row has
    std::vector<Acc> lse(m), weight(m);
    for (int64_t i = 0; i < m; ++i) weight[i] = classes.is_member(i) ? Acc(share) : Acc(0);
    const ClassPull<Acc> pull = classes.pull(Acc(share));
    sslk::symmetric_forward_backward<Acc>(problem, {{weight.data(), 1, Acc(1)},
                                                    lse.data(),
                                                    dz.mutable_data_ptr(),
                                                    nullptr,
                                                    data<Acc>(dscale),
                                                    &pull});
    double sum = -share * problem.scale * classes.similarity();
    for (int64_t i = 0; i < m; ++i) sum += double(weight[i]) * lse[i];
    *data<Acc>(loss) = Acc(sum);
  });
  return {loss, dz, dscale};
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("supcon_forward_backward", TORCH_BOX(&sslk::operators::supcon_forward_backward));
}
