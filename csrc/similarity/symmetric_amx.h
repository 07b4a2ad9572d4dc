// The symmetric similarity softmax on the AMX tile unit.
#pragma once

#include "problem.h"

namespace sslk::amx {

// Both return false, with nothing written, when the scores may leave the range in which one
// exponential serves both the row and the column (|score| <= 61): take the general path then.
bool symmetric_forward(const Symmetric& problem, const SymmetricForward<float>& out);
bool symmetric_backward(const Symmetric& problem, const SymmetricBackward<float>& out);

}  // namespace sslk::amx
