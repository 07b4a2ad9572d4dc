#include "symmetric.h"

#include <type_traits>

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

template void symmetric_forward(const Symmetric&, const SymmetricForward<float>&);
template void symmetric_forward(const Symmetric&, const SymmetricForward<double>&);
template void symmetric_backward(const Symmetric&, const SymmetricBackward<float>&);
template void symmetric_backward(const Symmetric&, const SymmetricBackward<double>&);

}  // namespace sslk
