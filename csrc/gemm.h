// Small matrix products, float and double: our own on this ISA's multiply-add units, or those of
// the BLAS inside libtorch.
//
// With 512-bit vectors our own reach the rate of the BLAS at these block sizes
// (docs/performance.md). Below that the BLAS is asked, where there is one: it may know instructions
// that we do not use.
#pragma once

#include <algorithm>
#include <cstdint>

#include "bfloat16_pairs.h"
#include "simd.h"

namespace sslk {

// How an element of A meets a vector of B, and in what they are summed; bfloat16_pairs.h has
// another way.
template <class T>
SSLK_INLINE Vec<T> multiply_add(T x, Vec<T> b, Vec<T> sum) {
  return sum + x * b;
}
template <class T>
using SumOf = std::conditional_t<sizeof(T) == 8, double, float>;

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

// C[Rows, kPanel] (+)= A[Rows, depth] B[depth, kPanel], B packed row after row. The product is
// added as a whole: it would round once a term in the size of all that C has summed.
template <class T, int Rows>
SSLK_INLINE void micro_kernel(Strided<T> a, const T* b, int64_t depth, SumOf<T>* c, int64_t ldc,
                              bool accumulate) {
  constexpr int kL = kLanes<T>;
  Vec<SumOf<T>> sums[Rows][2] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const Vec<T> b0 = load(b + k * kPanel<T>), b1 = load(b + k * kPanel<T> + kL);
#pragma GCC unroll 12
    for (int i = 0; i < Rows; ++i) {
      const T x = a.data[i * a.row + k * a.column];
      sums[i][0] = multiply_add(x, b0, sums[i][0]);
      sums[i][1] = multiply_add(x, b1, sums[i][1]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < Rows; ++i) {
    for (int h = 0; h < 2; ++h) {
      SumOf<T>* at = c + i * ldc + h * kL;
      store(at, accumulate ? load(at) + sums[i][h] : sums[i][h]);
    }
  }
}

// One column panel of C, rows in the largest steps that fit the registers.
template <class T, int Rows>
void panel_product(Strided<T> a, const T* b, int64_t rows, int64_t depth, SumOf<T>* c, int64_t ldc,
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
                   int64_t depth, SumOf<T>* c, int64_t ldc, bool accumulate) {
  constexpr int kRows = kVectorRegisters == 32 ? 12 : 6;
  for (int64_t j = 0; j < columns; j += kPanel<T>) {
    panel_product<T, kRows>(a, b + j / kPanel<T> * panel_step, rows, depth, c + j, ldc, accumulate);
  }
}

// The BLAS, as C[rows, columns] = A B + beta C on row-major matrices.
#if defined(__linux__)
extern "C" {
#define SSLK_BLAS_GEMM(name, T)                                                                   \
  __attribute__((weak)) void name(const char*, const char*, const int*, const int*, const int*,   \
                                  const T*, const T*, const int*, const T*, const int*, const T*, \
                                  T*, const int*);
SSLK_BLAS_GEMM(sgemm_, float)
SSLK_BLAS_GEMM(dgemm_, double)
#undef SSLK_BLAS_GEMM
}
template <class T>
bool use_blas() {
  const void* found = sizeof(T) == 8 ? (const void*)&dgemm_ : (const void*)&sgemm_;
  return kVectorBytes < 64 && found != nullptr;
}
#else
template <class T>
bool use_blas() {
  return false;
}
#endif

template <class T>
struct Transposable {
  const T* data;
  int64_t leading;
  bool transposed;  // data holds the transpose
};

template <class T>
void blas_product(Transposable<T> a, Transposable<T> b, int64_t rows, int64_t columns,
                  int64_t depth, T beta, T* c, int64_t ldc) {
#if defined(__linux__)
  // Fortran sees the transposes of row-major matrices: C^T = B^T A^T.
  const char of_a = a.transposed ? 'T' : 'N', of_b = b.transposed ? 'T' : 'N';
  const int m = int(columns), n = int(rows), k = int(depth);
  const int lda = int(a.leading), ldb = int(b.leading), ld = int(ldc);
  const T one = 1;
  if constexpr (sizeof(T) == 8) {
    dgemm_(&of_b, &of_a, &m, &n, &k, &one, b.data, &ldb, a.data, &lda, &beta, c, &ld);
  } else {
    sgemm_(&of_b, &of_a, &m, &n, &k, &one, b.data, &ldb, a.data, &lda, &beta, c, &ld);
  }
#else
  (void)a, (void)b, (void)rows, (void)columns, (void)depth, (void)beta, (void)c, (void)ldc;
#endif
}

}  // namespace sslk
