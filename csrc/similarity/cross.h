// The general similarity softmax: rows of Q against rows of K, any scale, each row its own maximum.
#pragma once

#include <cstdint>

#include "operand.h"

namespace sslk {

// s_ij = scale <q_i, k_j> + bias_j, without the columns (i + offset) mod n for the excluded
// offsets.
template <class T>
struct Cross {
  const Operand<T>* q;
  const Operand<T>* k;
  int64_t m, n;  // rows of Q and of K, without padding
  T scale;
  const T* bias;  // [n], or null
  const int64_t* exclude;
  int64_t excluded;
};

// lse[m]: log sum exp of each row, -inf for a row with no column.
template <class T>
void cross_forward(const Cross<T>& problem, T* lse);

// One column a row, (i + offset) mod n, whose weight is given and not a probability.
template <class T>
struct CrossTarget {
  int64_t offset;
  const T* weight;  // [m]; null: no target
};

// With W_ij = grad_i exp(s_ij - lse_i):  dq += W K,  dk += W^T Q (both without scale, padded like
// the operands),  dbias_j += sum_i W_ij (may be null). Tensors start at zero or hold a running sum.
template <class T>
struct CrossGradients {
  T* dq;
  T* dk;
  T* dbias;
};

template <class T>
void cross_backward(const Cross<T>& problem, const T* lse, const T* grad,
                    const CrossTarget<T>& target, const CrossGradients<T>& out);

// Both at once, for weights grad[m] that are known beforehand: three products instead of four, the
// scores of a strip of rows being kept.
template <class T>
void cross_forward_backward(const Cross<T>& problem, const T* grad, T* lse,
                            const CrossGradients<T>& out);

}  // namespace sslk
