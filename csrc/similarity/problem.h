// What the kernels of this room are asked to do, in plain C++ types.
#pragma once

#include <cstdint>

namespace sslk {

enum class Dtype { kFloat64, kFloat32, kBFloat16, kFloat16 };

// torch.get_float32_matmul_precision(): what one product of float32 matrices may lose.
enum class Precision { kHighest = 0, kHigh = 1, kMedium = 2 };

// Whether a product may round its operands to bfloat16.
constexpr bool in_bfloat16(Dtype dtype, Precision precision) {
  return dtype == Dtype::kBFloat16 || (dtype == Dtype::kFloat32 && precision == Precision::kMedium);
}

// Two views of one batch, seen as one matrix: row i < n is z1[i], the others z2[i - n]. Or one
// matrix alone: z2 is null.
struct Views {
  const void* z1;
  const void* z2;
  Dtype dtype;
  int64_t n;  // rows of one view
  int64_t d;

  bool paired() const { return z2 != nullptr; }
  int64_t rows() const { return paired() ? 2 * n : n; }
  // The row whose view pairs with row i, or -1.
  int64_t partner(int64_t i) const { return !paired() ? -1 : i < n ? i + n : i - n; }
};

// The softmax of a set of rows over itself, s_ij = scale <z_i, z_j>:
//   paired:  rows[i] = lse over the allowed j of s_ij, minus s_i,partner   (NT-Xent)
//   alone:   rows[i] = lse over the allowed j of s_ij
struct Symmetric {
  Views views;
  double scale;          // 1 / temperature
  bool normalize;        // rows are divided by max(norm, 1e-12) first
  bool exclude_self;     // j = i is left out; always so for pairs
  bool exclude_partner;  // the positive is left out of the lse too (DCL)
  Precision precision;
};

// Upstream gradient of the rows: factor * values[i * stride], stride 0 for a broadcast scalar.
template <class Acc>
struct RowGradient {
  const Acc* values;
  int64_t stride;
  Acc factor;
  Acc operator[](int64_t i) const { return factor * values[i * stride]; }
};

// What rows of a class do to each other's gradients: with c = of_row[i], and unless that is -1,
// (W Z)_i loses weight[c] (sums[c] - z_i). Rows are summed as the softmax sees them.
template <class Acc>
struct ClassPull {
  const int64_t* of_row;
  const Acc* sums;  // [classes, D]
  const Acc* weight;
};

// Acc is double for float64 views and float otherwise. `row_stat` [2, M] is what the backward needs
// to know of each row's softmax; only the same problem's backward can read it. Without it, the
// backward of rows alone makes do with their rounded `lse`.
template <class Acc>
struct SymmetricForward {
  Acc* rows;
  Acc* row_stat;
  Acc* inv_norm;  // [M]; not touched without normalize
};

template <class Acc>
struct SymmetricBackward {
  RowGradient<Acc> grad;
  const Acc* row_stat;  // or null
  const Acc* lse;       // [M] when row_stat is null
  const Acc* inv_norm;
  void* dz1;  // the views' dtype
  void* dz2;
  Acc* dscale;
  const ClassPull<Acc>* classes = nullptr;
};

// Both at once, for a gradient of the rows that is known beforehand.
template <class Acc>
struct SymmetricForwardBackward {
  RowGradient<Acc> grad;
  Acc* rows;
  void* dz1;  // the views' dtype
  void* dz2;
  Acc* dscale;
  const ClassPull<Acc>* classes = nullptr;
};

}  // namespace sslk
