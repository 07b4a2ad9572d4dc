// The engine's operators on raw matrices of any dtype: the choice of path.
#pragma once

#include "cross.h"

namespace sslk {

// As cross_forward and cross_backward, but k may be null, K is then Q: dq takes both sides, dk is
// not touched. Where the matrix of logits is symmetric, each of them is computed once.
template <class Acc>
void logsumexp_forward(const Logits& problem, Acc* lse);

template <class Acc>
void logsumexp_backward(const Logits& problem, const Acc* grad, const Acc* lse,
                        const LogitGradients<Acc>& out);

// lse and the gradients of sum_i weight_i lse_i.
template <class Acc>
void weighted_logsumexp(const Logits& problem, const Acc* weight, Acc* lse,
                        const LogitGradients<Acc>& out);

}  // namespace sslk
