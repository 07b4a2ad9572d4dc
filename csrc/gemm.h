// Small matrix products on this ISA's multiply-add units, float and double.
//
// On the machines measured it reaches the rate of the vendor BLAS at these block sizes, so nothing
// is linked and the same source serves every ISA (docs/performance.md).
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace sslk {

// Columns of C that one micro-kernel keeps in registers: two vectors.
template <class T>
constexpr int kPanel = 2 * kLanes<T>;

// Every block of rows is padded to this; it is a multiple of every kPanel.
constexpr int kRowPadding = 32;

constexpr int64_t pad_rows(int64_t rows) {
  return (rows + kRowPadding - 1) / kRowPadding * kRowPadding;
}

// A[i, k] = data[i * row + k * column].
template <class T>
struct Strided {
  const T* data;
  int64_t row;
  int64_t column;
};

// C[Rows, kPanel] (+)= A[Rows, depth] B[depth, kPanel], B packed row after row.
template <class T, int Rows>
SSLK_INLINE void micro_kernel(Strided<T> a, const T* b, int64_t depth, T* c, int64_t ldc,
                              bool accumulate) {
  constexpr int kL = kLanes<T>;
  Vec<T> sums[Rows][2];
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i) {
    sums[i][0] = accumulate ? load(c + i * ldc) : Vec<T>{};
    sums[i][1] = accumulate ? load(c + i * ldc + kL) : Vec<T>{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vec<T> b0 = load(b + k * kPanel<T>), b1 = load(b + k * kPanel<T> + kL);
#pragma GCC unroll 12
    for (int i = 0; i < Rows; ++i) {
      const T x = a.data[i * a.row + k * a.column];
      sums[i][0] += x * b0;
      sums[i][1] += x * b1;
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i) {
    store(c + i * ldc, sums[i][0]);
    store(c + i * ldc + kL, sums[i][1]);
  }
}

// One column panel of C, rows in the largest steps that fit the registers.
template <class T, int Rows>
void panel_product(Strided<T> a, const T* b, int64_t rows, int64_t depth, T* c, int64_t ldc,
                   bool accumulate) {
  int64_t i = 0;
  for (; i + Rows <= rows; i += Rows) {
    micro_kernel<T, Rows>({a.data + i * a.row, a.row, a.column}, b, depth, c + i * ldc, ldc,
                          accumulate);
  }
  constexpr int kNext = Rows == 12 ? 8 : Rows == 8 || Rows == 6 ? 4 : 2;
  if constexpr (Rows > 2) {
    const Strided<T> rest{a.data + i * a.row, a.row, a.column};
    if (i < rows) panel_product<T, kNext>(rest, b, rows - i, depth, c + i * ldc, ldc, accumulate);
  }
}

// C[rows, columns] (+)= A[rows, depth] B. B is cut in panels of kPanel columns, `panel_step` apart;
// rows is even and columns a multiple of kPanel.
template <class T>
void block_product(Strided<T> a, const T* b, int64_t panel_step, int64_t rows, int64_t columns,
                   int64_t depth, T* c, int64_t ldc, bool accumulate) {
  constexpr int kRows = kVectorRegisters == 32 ? 12 : 6;
  for (int64_t j = 0; j < columns; j += kPanel<T>) {
    panel_product<T, kRows>(a, b + j / kPanel<T> * panel_step, rows, depth, c + j, ldc, accumulate);
  }
}

}  // namespace sslk
