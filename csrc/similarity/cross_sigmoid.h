// A logistic loss over all pairs of rows: the value, and its gradients from the same logits.
#pragma once

#include <cstdint>

#include "cross.h"

namespace sslk {

// -weight sum_ij log sigmoid(y_ij (s_ij + bias)), y_ij 1 for j = target_i, else -1.
template <class Acc>
void sigmoid_forward(const Logits& problem, double bias, double weight, Acc* value);

// With the gradients of the value: those of the logits' operands in `out`, which has the weight,
// and dbias.
template <class Acc>
void sigmoid_forward_backward(const Logits& problem, double bias, Acc* value, Acc* dbias,
                              const LogitGradients<Acc>& out);

}  // namespace sslk
