// Operand (operand.h) with the products in bfloat16: rows come and weights come as float32, and
// both are rounded on their way into pairs. Scratch for weights is on the stack.
#pragma once

#include "../bfloat16_pairs.h"
#include "operand.h"

#ifdef __AVX512BF16__

namespace sslk {

class PairOperand {
  static constexpr int64_t kWide = kPanel<Pair>;
  // Pairs of a product that are summed at once: what all rows meet stays in the first-level cache.
  static constexpr int64_t kDeep = 192;
  static constexpr int64_t kWeightRows = 128, kWeightColumns = 256;  // rounded at once

 public:
  PairOperand(int64_t rows, int64_t d, Forms forms = Forms::kAll)
      : rows_(pad_rows(rows)),
        pairs_((d + 1) / 2),
        width_((d + kWide - 1) / kWide * kWide),
        naturals_(!on_both_sides(forms)),
        left_(naturals_ && forms != Forms::kRightOfScores),
        right_(on_the_right(forms)),
        values_(as_values(forms)) {}

  size_t bytes() const {
    return naturals_ * Workspace::padded<float>(rows_ * width_) +
           (left_ + right_ + values_) * Workspace::padded<Pair>(form());
  }
  void place(Workspace& workspace) {
    if (naturals_) natural_ = workspace.take<float>(rows_ * width_);
    if (left_) in_pairs_ = workspace.take<Pair>(form());
    if (right_) transposed_ = workspace.take<Pair>(form());
    if (values_) panels_ = workspace.take<Pair>(form());
  }

  int64_t padded_rows() const { return rows_; }
  int64_t width() const { return width_; }
  bool keeps_rows() const { return naturals_; }
  float* row(int64_t i) const { return natural_ + i * width_; }  // where rows are kept

  // Makes the forms of rows [begin, end), multiples of kPanel, from row().
  void pack(int64_t begin, int64_t end) const { pack(begin, end, row(begin)); }
  // The same from rows that lie elsewhere.
  void pack(int64_t begin, int64_t end, const float* rows) const {
    for (int64_t i = begin; i < end; i += 2) {
      const float* const two = rows + (i - begin) * width_;
      for (int64_t k = 0; k < width_; k += kWide) {
        for (int64_t r = 0; r < 2; ++r) pack_neighbours(i + r, k, two + r * width_ + k);
        if (values_) pack_values(i, k, two + k);
      }
    }
  }

  // S[rows, columns] = this[i.., :] other[j.., :]^T.
  void scores(int64_t i, int64_t rows, const PairOperand& other, int64_t j, int64_t columns,
              float* s, int64_t lds) const {
    const int64_t half = width_ / 2;
    int64_t k = 0;
    do {
      const int64_t depth = std::min(kDeep, pairs_ - k);
      const auto product = [&](Strided<Pair> left, int64_t c, int64_t high, int64_t wide,
                               float* to) {
        block_product<Pair>(left, other.transposed_ + (j + c) * half + k * kWide, kWide * half,
                            high, wide, depth, to, lds, /*accumulate=*/k > 0);
      };
      if (left_) {
        product({in_pairs_ + i * half + k, half, 1}, 0, rows, columns, s);
      } else {
        for (int64_t c = 0; c < columns; c += kWide) {
          for (int64_t r = 0; r < rows; r += kWide) {
            product({transposed_ + (i + r) * half + k * kWide, 1, kWide}, c, kWide, kWide,
                    s + r * lds + c);
          }
        }
      }
      k += kDeep;
    } while (k < pairs_);
  }
  // C[rows, width] += W[rows, count] this[j.., :]; rows of W, or of W^T, lie in one piece.
  void accumulate(Strided<float> w, int64_t rows, int64_t j, int64_t count, float* c) const {
    alignas(64) Pair scratch[kWeightRows * kWeightColumns / 2];
    for (int64_t r = 0; r < rows; r += kWeightRows) {
      for (int64_t n = 0; n < count; n += kWeightColumns) {
        const int64_t high = std::min(kWeightRows, rows - r);
        const int64_t wide = std::min(kWeightColumns, count - n);
        const Strided<float> part{w.data + r * w.row + n * w.column, w.row, w.column};
        block_product<Pair>(w.column == 1 ? rounded(part, high, wide, scratch)
                                          : rounded_transpose(part, high, wide, scratch),
                            panels_ + (j + n) / 2 * kWide, kWide * rows_ / 2, high, width_,
                            wide / 2, c + r * width_, width_, true);
      }
    }
  }

 private:
  int64_t form() const { return rows_ * width_ / 2; }

  // What row i has from feature k on; `from` are these.
  void pack_neighbours(int64_t i, int64_t k, const float* from) const {
    alignas(64) Pair scratch[kLanes<Pair>];
    Pair* const pairs = left_ ? in_pairs_ + (i * width_ + k) / 2 : scratch;
    store(pairs, neighbours(load(from), load(from + kLanes<float>)));
    if (!right_) return;
    Pair* column = transposed_ + i / kWide * kWide * (width_ / 2) + k / 2 * kWide + i % kWide;
    for (int n = 0; n < kLanes<Pair>; ++n) column[n * kWide] = pairs[n];
  }
  // The same of rows i and i + 1.
  void pack_values(int64_t i, int64_t k, const float* from) const {
    Pair* target = panels_ + k * (rows_ / 2) + i / 2 * kWide;
    for (int64_t n = 0; n < kWide; n += kLanes<float>) {
      store(target + n, lane_by_lane(load(from + n), load(from + width_ + n)));
    }
  }

  // Pairs of neighbours in a row of weights whose rows lie in one piece; sizes are multiples of
  // kRowPadding.
  static Strided<Pair> rounded(Strided<float> w, int64_t rows, int64_t count, Pair* to) {
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = w.data + r * w.row;
      for (int64_t n = 0; n < count; n += kWide) {
        store(to + r * (kWeightColumns / 2) + n / 2,
              neighbours(load(from + n), load(from + n + kLanes<float>)));
      }
    }
    return {to, kWeightColumns / 2, 1};
  }
  // The same where columns lie in one piece.
  static Strided<Pair> rounded_transpose(Strided<float> w, int64_t rows, int64_t count, Pair* to) {
    for (int64_t n = 0; n < count; n += 2) {
      const float* from = w.data + n * w.column;
      for (int64_t r = 0; r < rows; r += kLanes<float>) {
        store(to + n / 2 * kWeightRows + r,
              lane_by_lane(load(from + r), load(from + w.column + r)));
      }
    }
    return {to, 1, kWeightRows};
  }

  int64_t rows_, pairs_, width_;
  bool naturals_, left_, right_, values_;
  float* natural_ = nullptr;
  Pair *in_pairs_ = nullptr, *transposed_ = nullptr, *panels_ = nullptr;
};

}  // namespace sslk

#endif  // __AVX512BF16__
