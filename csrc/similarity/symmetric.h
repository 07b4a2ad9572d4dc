// The softmax of a set of rows over itself: picks the kernel for this ISA, dtype and scale.
#pragma once

#include "problem.h"

namespace sslk {

template <class Acc>
void symmetric_forward(const Symmetric& problem, const SymmetricForward<Acc>& out);
template <class Acc>
void symmetric_backward(const Symmetric& problem, const SymmetricBackward<Acc>& out);
template <class Acc>
void symmetric_forward_backward(const Symmetric& problem, const SymmetricForwardBackward<Acc>& out);

}  // namespace sslk
