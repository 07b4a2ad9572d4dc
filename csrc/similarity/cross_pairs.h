// The softmax of the logits both ways, over the columns of a row and over the rows of a column.
#pragma once

#include "cross.h"

namespace sslk {

template <class Acc>
struct PairTerms {
  Acc* row_lse;     // [m]: log sum_j exp s_ij
  Acc* column_lse;  // [n]: log sum_i exp s_ij
  Acc* pair_logit;  // [m]: s_i,target
};

// For logits of a scale alone, with a target in every row.
template <class Acc>
void pair_forward(const Logits& problem, const PairTerms<Acc>& out);

// Upstream gradients of the terms.
template <class Acc>
struct PairGradients {
  const Acc *row_lse, *column_lse, *pair_logit;
};

template <class Acc>
void pair_backward(const Logits& problem, const Acc* row_lse, const Acc* column_lse,
                   const PairGradients<Acc>& grad, const LogitGradients<Acc>& out);

}  // namespace sslk
