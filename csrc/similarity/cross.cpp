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
    switch (amx::parts(problem.dtype, problem.precision)) {
      case 1:
        return f(CrossPass<amx::CrossKernel<1>>(problem));
      case 2:
        return f(CrossPass<amx::CrossKernel<2>>(problem));
      default:
        return f(CrossPass<amx::CrossKernel<3>>(problem));
    }
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
