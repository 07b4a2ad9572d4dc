// Rows over their norms, and the gradient through that.
#pragma once

#include "problem.h"

namespace sslk {

// z_i = x_i / max(|x_i|, epsilon), m rows of d values of type `dtype`; inv_norm[m] for the
// backward.
template <class Acc>
void unit_rows_forward(const void* x, Dtype dtype, int64_t m, int64_t d, void* z, Acc* inv_norm);

// dx from the gradient of z, of type `dtype` both.
template <class Acc>
void unit_rows_backward(const void* grad, const void* x, const Acc* inv_norm, Dtype dtype,
                        int64_t m, int64_t d, void* dx);

}  // namespace sslk
