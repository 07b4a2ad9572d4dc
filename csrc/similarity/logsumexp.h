// The engine's operators on raw matrices of any dtype: packing, the choice of kernel, and the way
// back to the caller's dtype.
#pragma once

#include <cstdint>

#include "problem.h"

namespace sslk {

// lse_i = log sum over the allowed j of exp(scale <q_i, k_j> + bias_j). Column (i + offset) mod n
// is not allowed for the excluded offsets. k null: K is Q.
struct LogSumExp {
  const void* q;  // [m, d]
  const void* k;  // [n, d], or null
  Dtype dtype;
  int64_t m, n, d;
  double scale;
  const void* bias;  // [n] of the accumulator's type, or null
  const int64_t* exclude;
  int64_t excluded;
  Precision precision;
};

template <class Acc>
void logsumexp_forward(const LogSumExp& problem, Acc* lse);

// Gradients of sum_i grad_i lse_i. dk is null when k is: dq then holds both sides.
template <class Acc>
struct LogSumExpGradients {
  void* dq;
  void* dk;
  Acc* dscale;
  Acc* dbias;  // [n], or null
};

template <class Acc>
void logsumexp_backward(const LogSumExp& problem, const Acc* grad, const Acc* lse,
                        const LogSumExpGradients<Acc>& out);

// lse and the gradients of sum_i weight_i lse_i in one go: a product less than the two apart.
template <class Acc>
void weighted_logsumexp(const LogSumExp& problem, const Acc* weight, Acc* lse,
                        const LogSumExpGradients<Acc>& out);

}  // namespace sslk
