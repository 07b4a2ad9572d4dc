#include "cross.h"

#include "cross_kernels.h"

namespace sslk {

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
