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
        left_(forms != Forms::kRightOfScores),
        right_(on_the_right(forms)),
        values_(forms == Forms::kAll || forms == Forms::kLeftOfScoresAndValues) {}

  size_t bytes() const {
    return Workspace::padded<float>(rows_ * width_) +
           (left_ + right_ + values_) * Workspace::padded<Pair>(form());
  }
  void place(Workspace& workspace) {
    natural_ = workspace.take<float>(rows_ * width_);
    if (left_) in_pairs_ = workspace.take<Pair>(form());
    if (right_) transposed_ = workspace.take<Pair>(form());
    if (values_) panels_ = workspace.take<Pair>(form());
  }

  int64_t padded_rows() const { return rows_; }
  int64_t width() const { return width_; }
  float* row(int64_t i) const { return natural_ + i * width_; }

  // Makes the forms of rows [begin, end), multiples of kPanel, from row().
  void pack(int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; i += 2) {
      for (int64_t k = 0; k < width_; k += kWide) {
        for (int64_t r = i; r < i + 2; ++r) pack_neighbours(r, k);
        if (values_) pack_values(i, k);
      }
    }
  }

  // S[rows, columns] = this[i.., :] other[j.., :]^T.
  void scores(int64_t i, int64_t rows, const PairOperand& other, int64_t j, int64_t columns,
              float* s, int64_t lds) const {
    const int64_t half = width_ / 2;
    int64_t k = 0;
    do {
      block_product<Pair>({in_pairs_ + i * half + k, half, 1},
                          other.transposed_ + j * half + k * kWide, kWide * half, rows, columns,
                          std::min(kDeep, pairs_ - k), s, lds, /*accumulate=*/k > 0);
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

  void pack_neighbours(int64_t i, int64_t k) const {
    alignas(64) Pair scratch[kLanes<Pair>];
    Pair* const pairs = left_ ? in_pairs_ + (i * width_ + k) / 2 : scratch;
    store(pairs, neighbours(load(row(i) + k), load(row(i) + k + kLanes<float>)));
    if (!right_) return;
    Pair* column = transposed_ + i / kWide * kWide * (width_ / 2) + k / 2 * kWide + i % kWide;
    for (int n = 0; n < kLanes<Pair>; ++n) column[n * kWide] = pairs[n];
  }
  void pack_values(int64_t i, int64_t k) const {
    Pair* target = panels_ + k * (rows_ / 2) + i / 2 * kWide;
    for (int64_t n = 0; n < kWide; n += kLanes<float>) {
      store(target + n, lane_by_lane(load(row(i) + k + n), load(row(i + 1) + k + n)));
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
  bool left_, right_, values_;
  float* natural_ = nullptr;
  Pair *in_pairs_ = nullptr, *transposed_ = nullptr, *panels_ = nullptr;
};

}  // namespace sslk

#endif  // __AVX512BF16__
