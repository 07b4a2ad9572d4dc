#include "symmetric.h"

#include <type_traits>
#include <vector>

#include "symmetric_amx.h"
#include "symmetric_vector.h"

namespace sslk {

template <class Acc>
void symmetric_forward(const Symmetric& problem, const SymmetricForward<Acc>& out) {
#ifdef SSLK_ISA_AMX
  if constexpr (std::is_same_v<Acc, float>) {
    if (amx::symmetric_forward(problem, out)) return;
  }
#endif
  if (symmetric_vector_forward<Acc>(problem, out)) return;
  symmetric_general_forward<Acc>(problem, out);
}

template <class Acc>
void symmetric_backward(const Symmetric& problem, const SymmetricBackward<Acc>& out) {
#ifdef SSLK_ISA_AMX
  if constexpr (std::is_same_v<Acc, float>) {
    if (amx::symmetric_backward(problem, out)) return;
  }
#endif
  if (symmetric_vector_backward<Acc>(problem, out)) return;
  symmetric_general_backward<Acc>(problem, out);
}

template <class Acc>
void symmetric_forward_backward(const Symmetric& problem,
                                const SymmetricForwardBackward<Acc>& out) {
#ifdef SSLK_ISA_AMX
  if constexpr (std::is_same_v<Acc, float>) {
    if (amx::symmetric_forward_backward(problem, out)) return;
  }
#endif
  std::vector<Acc> row_stat(2 * problem.views.rows());
  std::vector<Acc> inv_norm(problem.normalize ? problem.views.rows() : 0);
  symmetric_forward<Acc>(problem, {out.rows, row_stat.data(), inv_norm.data()});
  symmetric_backward<Acc>(problem, {out.grad, row_stat.data(), nullptr, inv_norm.data(), out.dz1,
                                    out.dz2, out.dscale, out.classes});
}

template void symmetric_forward(const Symmetric&, const SymmetricForward<float>&);
template void symmetric_forward(const Symmetric&, const SymmetricForward<double>&);
template void symmetric_backward(const Symmetric&, const SymmetricBackward<float>&);
template void symmetric_backward(const Symmetric&, const SymmetricBackward<double>&);
template void symmetric_forward_backward(const Symmetric&, const SymmetricForwardBackward<float>&);
template void symmetric_forward_backward(const Symmetric&, const SymmetricForwardBackward<double>&);

}  // namespace sslk
