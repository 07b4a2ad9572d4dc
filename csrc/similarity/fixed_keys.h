// The softmax of each row over keys that want no gradient.
#pragma once

#include "cross.h"

namespace sslk {

// lse[m], and with p_ij = exp(s_ij - lse_i) the keys that each row expects, sum_j p_ij k_j: [m, d]
// of the accumulator's type. The derivative of lse_i by q_i is that times scale.
template <class Acc>
void fixed_keys_forward(const Logits& problem, Acc* lse, Acc* mean_key);

}  // namespace sslk
