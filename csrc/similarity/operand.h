// A matrix of rows in the forms that the two products of a similarity softmax want: S = Q K^T takes
// natural rows on its left and transposed ones on its right, dQ += W K (dK += W^T Q) panels. Of
// S = Z Z^T the transposed ones are both sides.
#pragma once

#include "../gemm.h"
#include "../workspace.h"

namespace sslk {

enum class Forms {
  kAll,
  kRightOfScores,
  kLeftOfScores,
  kLeftOfScoresAndValues,
  kBothSidesOfScores,
  kBothSidesOfScoresAndValues
};

constexpr bool on_both_sides(Forms forms) {
  return forms == Forms::kBothSidesOfScores || forms == Forms::kBothSidesOfScoresAndValues;
}
// Whether rows are multiplied from the right somewhere.
constexpr bool on_the_right(Forms forms) {
  return on_both_sides(forms) || forms == Forms::kAll || forms == Forms::kRightOfScores;
}
constexpr bool as_values(Forms forms) {
  return forms == Forms::kAll || forms == Forms::kLeftOfScoresAndValues ||
         forms == Forms::kBothSidesOfScoresAndValues;
}

template <class T>
class Operand {
 public:
  Operand(int64_t rows, int64_t d, Forms forms = Forms::kAll)
      : rows_(pad_rows(rows)),
        d_(d),
        width_((d + kPanel<T> - 1) / kPanel<T> * kPanel<T>),
        naturals_(use_blas<T>() || !on_both_sides(forms)),
        transposes_(!use_blas<T>() && on_the_right(forms)),
        panels_too_(!use_blas<T>() && as_values(forms)) {}

  size_t bytes() const {
    return (naturals_ + transposes_ + panels_too_) * Workspace::padded<T>(rows_ * width_);
  }
  void place(Workspace& workspace) {
    if (naturals_) natural_ = workspace.take<T>(rows_ * width_);
    if (transposes_) transposed_ = workspace.take<T>(rows_ * width_);
    if (panels_too_) panels_ = workspace.take<T>(rows_ * width_);
  }

  int64_t padded_rows() const { return rows_; }
  int64_t width() const { return width_; }  // D, padded to kPanel
  bool keeps_rows() const { return naturals_; }
  T* row(int64_t i) const { return natural_ + i * width_; }  // where rows are kept

  // Makes the other forms of rows [begin, end), multiples of kPanel, from row().
  void pack(int64_t begin, int64_t end) const { pack(begin, end, row(begin)); }
  // The same from rows that lie elsewhere.
  void pack(int64_t begin, int64_t end, const T* rows) const {
    for (int64_t i = begin; i < end; ++i) {
      const T* source = rows + (i - begin) * width_;
      if (transposes_) {
        T* column = transposed_ + i / kPanel<T> * kPanel<T> * width_ + i % kPanel<T>;
        for (int64_t k = 0; k < width_; ++k) column[k * kPanel<T>] = source[k];
      }
      for (int64_t k = 0; panels_too_ && k < width_; k += kPanel<T>) {
        T* target = panels_ + k * rows_ + i * kPanel<T>;
        for (int n = 0; n < kPanel<T>; ++n) target[n] = source[k + n];
      }
    }
  }

  // S[rows, columns] = this[i.., :] other[j.., :]^T.
  void scores(int64_t i, int64_t rows, const Operand& other, int64_t j, int64_t columns, T* s,
              int64_t lds) const {
    if (use_blas<T>()) {
      const Transposable<T> keys{other.row(j), width_, true};
      return blas_product<T>({row(i), width_, false}, keys, rows, columns, d_, T(0), s, lds);
    }
    if (naturals_) {
      return block_product<T>({row(i), width_, 1}, other.transposed_ + j * width_,
                              kPanel<T> * width_, rows, columns, d_, s, lds, false);
    }
    for (int64_t c = 0; c < columns; c += kPanel<T>) {  // which all rows meet in the first cache
      for (int64_t r = 0; r < rows; r += kPanel<T>) {
        block_product<T>({transposed_ + (i + r) * width_, 1, kPanel<T>},
                         other.transposed_ + (j + c) * width_, 0, kPanel<T>, kPanel<T>, d_,
                         s + r * lds + c, lds, false);
      }
    }
  }
  // C[rows, width] += W[rows, count] this[j.., :]; W is strided, so that W^T needs no copy.
  void accumulate(Strided<T> w, int64_t rows, int64_t j, int64_t count, T* c) const {
    if (use_blas<T>()) {
      const Transposable<T> weights{w.data, std::max(w.row, w.column), w.column != 1};
      return blas_product<T>(weights, {row(j), width_, false}, rows, width_, count, T(1), c,
                             width_);
    }
    block_product<T>(w, panels_ + j * kPanel<T>, kPanel<T> * rows_, rows, width_, count, c, width_,
                     true);
  }

 private:
  int64_t rows_, d_, width_;
  bool naturals_, transposes_, panels_too_;
  T *natural_ = nullptr, *transposed_ = nullptr, *panels_ = nullptr;
};

}  // namespace sslk
