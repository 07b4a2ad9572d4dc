// A matrix of rows in the forms that the two products of a similarity softmax want. S = Q K^T takes
// its right side in panels of columns: rows of kPanel, feature by feature. Its left side comes row
// by row, or in the same panels. dQ += W K (dK += W^T Q) takes panels of features.
#pragma once

#include <algorithm>

#include "../gemm.h"
#include "../workspace.h"

namespace sslk {

// Where in a product of scores the rows stand.
enum class Sides { kLeft, kRight, kBoth };

template <class T>
class Operand {
 public:
  // `values`: whether weights will multiply the rows, too.
  Operand(int64_t rows, int64_t d, Sides sides, bool values)
      : rows_(pad_rows(rows)),
        d_(d),
        width_((d + kPanel<T> - 1) / kPanel<T> * kPanel<T>),
        natural_(use_blas<T>() || sides == Sides::kLeft),
        values_too_(!use_blas<T>() && values) {}

  size_t bytes() const { return (1 + values_too_) * Workspace::padded<T>(rows_ * width_); }
  void place(Workspace& workspace) {
    scores_ = workspace.take<T>(rows_ * width_);
    if (values_too_) values_ = workspace.take<T>(rows_ * width_);
  }

  int64_t padded_rows() const { return rows_; }
  int64_t width() const { return width_; }  // D, padded to kPanel

  // Takes rows [begin, begin + count), both multiples of kPanel, from `rows` [count, width].
  void pack(int64_t begin, int64_t count, const T* rows) const {
    if (natural_) std::copy_n(rows, count * width_, scores_ + begin * width_);
    for (int64_t i = begin; i < begin + count; ++i) {
      const T* row = rows + (i - begin) * width_;
      T* column = scores_ + i / kPanel<T> * kPanel<T> * width_ + i % kPanel<T>;
      for (int64_t k = 0; !natural_ && k < width_; ++k) column[k * kPanel<T>] = row[k];
      for (int64_t k = 0; values_too_ && k < width_; k += kPanel<T>) {
        T* target = values_ + k * rows_ + i * kPanel<T>;
        for (int n = 0; n < kPanel<T>; ++n) target[n] = row[k + n];
      }
    }
  }

  // S[rows, columns] = this[i.., :] other[j.., :]^T, all in multiples of kPanel.
  void scores(int64_t i, int64_t rows, const Operand& other, int64_t j, int64_t columns, T* s,
              int64_t lds) const {
    const T *left = scores_ + i * width_, *right = other.scores_ + j * width_;
    if (use_blas<T>()) {
      return blas_product<T>({left, width_, false}, {right, width_, true}, rows, columns, d_, T(0),
                             s, lds);
    }
    if (natural_) {
      return block_product<T>({left, width_, 1}, right, kPanel<T> * width_, rows, columns, d_, s,
                              lds, false);
    }
    for (int64_t c = 0; c < columns; c += kPanel<T>) {  // which all rows meet in the first cache
      for (int64_t r = 0; r < rows; r += kPanel<T>) {
        block_product<T>({left + r * width_, 1, kPanel<T>}, right + c * width_, 0, kPanel<T>,
                         kPanel<T>, d_, s + r * lds + c, lds, false);
      }
    }
  }
  // C[rows, width] += W[rows, count] this[j.., :]; W is strided, so that W^T needs no copy.
  void accumulate(Strided<T> w, int64_t rows, int64_t j, int64_t count, T* c) const {
    if (use_blas<T>()) {
      const Transposable<T> weights{w.data, std::max(w.row, w.column), w.column != 1};
      return blas_product<T>(weights, {scores_ + j * width_, width_, false}, rows, width_, count,
                             T(1), c, width_);
    }
    block_product<T>(w, values_ + j * kPanel<T>, kPanel<T> * rows_, rows, width_, count, c, width_,
                     true);
  }

 private:
  int64_t rows_, d_, width_;
  bool natural_, values_too_;
  T *scores_ = nullptr, *values_ = nullptr;  // to the BLAS one matrix is both
};

}  // namespace sslk
