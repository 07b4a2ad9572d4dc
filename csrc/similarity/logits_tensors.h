// Tensors of the CPU's operators: rows and gradients to be written, operands as a `Logits`.
#pragma once

#include <optional>
#include <tuple>

#include "../pooled.h"
#include "../rows.h"
#include "../tensors.h"
#include "check_operands.h"
#include "cross.h"
#include "cross_blocks.h"

namespace sslk::operators {

// Rows of the dtype of `like`, to be written to.
inline Tensor new_rows(const Tensor& like, int64_t rows, int64_t d) {
  return new_pooled(like, {rows, d}, like.scalar_type(), element_size(dtype_of(like, "rows")));
}

inline Logits logits_problem(const Tensor& q, const std::optional<Tensor>& k, const Tensor& scale,
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

// Fresh dq, dk, dscale, dbias; absent arguments, and keys that want none, get empty gradients.
inline std::tuple<Tensor, Tensor, Tensor, Tensor> new_gradients(const Logits& problem,
                                                                const Tensor& q,
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

}  // namespace sslk::operators
