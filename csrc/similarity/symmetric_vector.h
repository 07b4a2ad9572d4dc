// NT-Xent on the vector units of any ISA, in float or double.
#pragma once

#include "problem.h"

namespace sslk {

// Every score once in the forward and once in the backward. Both return false, with nothing
// written, when scores may leave the range of the shared exponential (row_stat.h).
template <class T>
bool symmetric_vector_forward(const Symmetric& problem, const SymmetricForward<T>& out);
template <class T>
bool symmetric_vector_backward(const Symmetric& problem, const SymmetricBackward<T>& out);

// Any scale: rows against all rows with each row's own maximum, twice the products.
template <class T>
void symmetric_general_forward(const Symmetric& problem, const SymmetricForward<T>& out);
template <class T>
void symmetric_general_backward(const Symmetric& problem, const SymmetricBackward<T>& out);

}  // namespace sslk
