#include "cross.h"

#include <type_traits>

#include "cross_amx.h"
#include "cross_vector.h"

namespace sslk {
namespace {

// Calls f with the pass on the best kernel for the problem.
template <class Acc, class F>
void with_pass(const Logits& problem, F&& f) {
#ifdef SSLK_ISA_AMX
  if constexpr (std::is_same_v<Acc, float>) {
    // bfloat16 holds 8 bits: float16's 11 take two parts, float32's 24 three.
    const bool whole = problem.dtype == Dtype::kFloat32;
    if (problem.dtype == Dtype::kBFloat16 || (whole && problem.precision == Precision::kMedium)) {
      return f(CrossPass<amx::CrossKernel<1>>(problem));
    }
    if (whole && problem.precision == Precision::kHighest) {
      return f(CrossPass<amx::CrossKernel<3>>(problem));
    }
    return f(CrossPass<amx::CrossKernel<2>>(problem));
  }
#endif
  f(CrossPass<VectorKernel<Acc>>(problem));
}

}  // namespace

template <class Acc>
void cross_forward(const Logits& problem, const LogitTerms<Acc>& out) {
  with_pass<Acc>(problem, [&](auto&& pass) { pass.forward(out); });
}

template <class Acc>
void cross_backward(const Logits& problem, const Acc* lse, const TermGradients<Acc>& grad,
                    const LogitGradients<Acc>& out) {
  with_pass<Acc>(problem, [&](auto&& pass) { pass.backward(lse, grad, out); });
}

#define SSLK_INSTANTIATE(T)                                                      \
  template void cross_forward(const Logits&, const LogitTerms<T>&);              \
  template void cross_backward(const Logits&, const T*, const TermGradients<T>&, \
                               const LogitGradients<T>&);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
