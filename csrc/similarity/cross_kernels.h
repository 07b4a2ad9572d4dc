// Which kernel a pass over the logits of two sets of rows runs on.
#pragma once

#include <type_traits>

#include "cross_amx.h"
#include "cross_vector.h"
#include "pair_operand.h"

namespace sslk {

// Calls f with the pass on the best kernel for the problem.
template <class Acc, class F>
void with_pass(const Logits& problem, F&& f) {
#ifdef SSLK_ISA_AMX
  if constexpr (std::is_same_v<Acc, float>) {
    switch (amx::parts(problem.dtype, problem.precision)) {
      case 1:
        return f(CrossPass<amx::CrossKernel<1>>(problem));
      case 2:
        return f(CrossPass<amx::CrossKernel<2>>(problem));
      default:
        return f(CrossPass<amx::CrossKernel<3>>(problem));
    }
  }
#elif defined(__AVX512BF16__)
  if constexpr (std::is_same_v<Acc, float>) {
    if (in_bfloat16(problem.dtype, problem.precision)) {
      return f(CrossPass<VectorKernel<float, PairOperand>>(problem));
    }
  }
#endif
  f(CrossPass<VectorKernel<Acc>>(problem));
}

}  // namespace sslk
