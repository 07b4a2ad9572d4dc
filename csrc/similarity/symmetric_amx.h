// The symmetric similarity softmax on the AMX tile unit.
#pragma once

#include "problem.h"

namespace sslk::amx {

// All return false, with nothing written, when the scores may leave the range in which one
// exponential serves both the row and the column (|score| <= 61): take the general path then.
bool symmetric_forward(const Symmetric& problem, const SymmetricForward<float>& out);
bool symmetric_backward(const Symmetric& problem, const SymmetricBackward<float>& out);
bool symmetric_forward_backward(const Symmetric& problem,
                                const SymmetricForwardBackward<float>& out);

// The same for a small batch: the exponentials are kept between the passes, not computed again.
bool fits_kept(const Symmetric& problem);
bool kept_forward_backward(const Symmetric& problem, const SymmetricForwardBackward<float>& out);

}  // namespace sslk::amx
