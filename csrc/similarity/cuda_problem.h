// What the engine on a GPU makes of torch's tensors: logits as the kernels take them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "../cuda_tensors.h"
#include "check_operands.h"
#include "cuda.h"

namespace sslk::operators {

inline DeviceLogits problem_of(const char* op, const Tensor& q, const std::optional<Tensor>& k,
                               const Tensor& scale, const std::optional<Tensor>& bias,
                               const std::vector<int64_t>& exclude) {
  const Dtype dtype = check_operands(q, k);
  STD_TORCH_CHECK(dtype == Dtype::kBFloat16 || dtype == Dtype::kFloat16, op,
                  ": the CUDA kernels take bfloat16 and float16");
  STD_TORCH_CHECK(q.size(1) <= kMostFeatures, op, ": q has ", q.size(1),
                  " features, the CUDA kernels take at most ", kMostFeatures);
  STD_TORCH_CHECK(int64_t(exclude.size()) <= kMostExcluded, op, ": exclude has ", exclude.size(),
                  " offsets, the CUDA kernels take at most ", kMostExcluded);
  const int64_t n = k ? k->size(0) : q.size(0);
  constexpr int64_t kMostRows = int64_t(1) << 31;
  STD_TORCH_CHECK(q.size(0) < kMostRows && n < kMostRows, op, ": 2^31 rows or more");
  check_vector(scale, 1, dtype, "scale");
  if (bias) check_vector(*bias, n, dtype, "bias");
  return {q.const_data_ptr(),
          k ? k->const_data_ptr() : nullptr,
          dtype,
          q.size(0),
          n,
          q.size(1),
          const_data<float>(scale),
          bias ? const_data<float>(*bias) : nullptr,
          exclude.data(),
          int64_t(exclude.size())};
}

inline Tensor floats(const Tensor& like, const std::vector<int64_t>& sizes) {
  return torch::stable::new_empty(like, sizes, ScalarType::Float);
}

}  // namespace sslk::operators
