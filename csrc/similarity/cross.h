// The general similarity softmax: rows of Q against the columns that are rows of K, at any scale,
// each row with its own maximum. Every loss over a set of columns is made of four numbers a row.
#pragma once

#include <cstdint>

#include "problem.h"

namespace sslk {

// Logits s_ij = cap(scale <q_i, k_j> + bias_j), cap(x) = softcap tanh(x / softcap).
struct Logits {
  const void* q;  // [m, d]
  const void* k;  // [n, d]
  Dtype dtype;
  int64_t m, n, d;
  double scale;
  Precision precision;
  const void* bias = nullptr;  // [n] of the accumulator's type
  double softcap = 0;          // 0: none
  // Column (i + offset) mod n is not there for row i, for every offset.
  const int64_t* exclude = nullptr;
  int64_t excluded = 0;
  // [m], each in [-1, n): the column that a row asks for. A row with -1 does not count: its terms
  // and gradients are zero and nothing is computed for it. Null: all count, none asks.
  const int64_t* target = nullptr;
  const void* column_weight = nullptr;  // [n] of the accumulator's type
};

// [m] each; all but lse may be null.
template <class Acc>
struct LogitTerms {
  Acc* lse;                     // log sum_j exp s_ij; -inf for a row with no column
  Acc* target_logit = nullptr;  // s_i,target
  Acc* weighted_sum = nullptr;  // sum_j column_weight_j s_ij
  Acc* largest = nullptr;       // max_j s_ij
};

template <class Acc>
void cross_forward(const Logits& problem, const LogitTerms<Acc>& out);

// Upstream gradients of the terms, [m] each; all but the first may be null.
template <class Acc>
struct TermGradients {
  const Acc* lse;
  const Acc* target_logit = nullptr;
  const Acc* weighted_sum = nullptr;
};

// dq[m, d] and dk[n, d] of type `dtype`; dk may be null, and is then not computed.
template <class Acc>
struct LogitGradients {
  void* dq;
  void* dk;
  Dtype dtype;
  Acc* dscale;
  Acc* dbias = nullptr;      // [n]; null: not wanted
  bool of_products = false;  // dq without the factor scale
  double weight = 1;         // factor of dq, dk and dscale

  double row_factor(const Logits& problem) const {
    return of_products ? weight : weight * problem.scale;
  }
  double column_factor(const Logits& problem) const { return weight * problem.scale; }
};

// With G_ij the gradient of the logits (a column that is left out has none but the target's):
// dq = scale G K,  dk = scale G^T Q,  dbias_j = sum_i G_ij,  dscale = sum_ij G_ij <q_i, k_j>.
template <class Acc>
void cross_backward(const Logits& problem, const Acc* lse, const TermGradients<Acc>& grad,
                    const LogitGradients<Acc>& out);

}  // namespace sslk
