// What every device asks of the tensors whose rows are compared.
#pragma once

#include <algorithm>
#include <optional>
#include <string>

#include "../tensors.h"

namespace sslk::operators {

// q [m, d], and k [n, d] of one type with it if there is one; returns that type.
inline Dtype check_operands(const Tensor& q, const std::optional<Tensor>& k) {
  check_matrix(q, "q");
  STD_TORCH_CHECK(q.size(1) > 0, "q has no columns");
  if (k) {
    check_matrix(*k, "k");
    STD_TORCH_CHECK(
        k->size(0) > 0 && k->size(1) == q.size(1) && k->scalar_type() == q.scalar_type(),
        "k does not fit q");
  }
  return dtype_of(q, "q");
}

// What each of m rows counts.
inline double row_weight(int64_t m, const std::string& reduction) {
  STD_TORCH_CHECK(reduction == "sum" || reduction == "mean", "reduction is neither sum nor mean");
  return reduction == "mean" ? 1 / std::max(1.0, double(m)) : 1.0;
}

}  // namespace sslk::operators
