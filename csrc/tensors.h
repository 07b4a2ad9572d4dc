// The one place where torch tensors become plain pointers: what every room's *operators.cpp share.
//
// Checks here are the last line of defence: sslkernels/checks.py speaks to people.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

#include "similarity/problem.h"

namespace sslk {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Dtype dtype_of(const Tensor& x, const char* name) {
  switch (x.scalar_type()) {
    case ScalarType::Double:
      return Dtype::kFloat64;
    case ScalarType::Float:
      return Dtype::kFloat32;
    case ScalarType::BFloat16:
      return Dtype::kBFloat16;
    case ScalarType::Half:
      return Dtype::kFloat16;
    default:
      STD_TORCH_CHECK(false, name, " has a dtype that the CPU kernels do not take");
  }
}

inline ScalarType accumulator_of(Dtype dtype) {
  return dtype == Dtype::kFloat64 ? ScalarType::Double : ScalarType::Float;
}

inline void check_matrix(const Tensor& x, const char* name) {
  STD_TORCH_CHECK(x.dim() == 2 && x.is_contiguous(), name, " is not a contiguous matrix");
}

inline void check_vector(const Tensor& x, int64_t length, Dtype dtype, const char* name) {
  STD_TORCH_CHECK(
      x.numel() == length && x.is_contiguous() && x.scalar_type() == accumulator_of(dtype), name,
      " is not [", length, "] of the accumulator's dtype");
}

// float32 or float64, one element.
inline double scalar_of(const Tensor& x, const char* name) {
  STD_TORCH_CHECK(x.numel() == 1, name, " has not one element");
  if (x.scalar_type() == ScalarType::Double) return *static_cast<const double*>(x.const_data_ptr());
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float, name, " is not float32 or float64");
  return *static_cast<const float*>(x.const_data_ptr());
}

inline Precision precision_of(int64_t precision) {
  STD_TORCH_CHECK(precision >= 0 && precision <= 2, "precision is not 0, 1 or 2");
  return static_cast<Precision>(precision);
}

// Calls f with a value of the accumulator's type.
template <class F>
void with_accumulator(Dtype dtype, F&& f) {
  if (dtype == Dtype::kFloat64) {
    f(double{});
  } else {
    f(float{});
  }
}

template <class T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}
template <class T>
const T* const_data(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}

}  // namespace sslk
