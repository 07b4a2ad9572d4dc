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
  PairOperand(int64_t rows, int64_t d, Sides sides, bool values)
      : rows_(pad_rows(rows)),
        pairs_((d + 1) / 2),
        width_((d + kWide - 1) / kWide * kWide),
        natural_(sides == Sides::kLeft),
        values_too_(values) {}

  size_t bytes() const { return (1 + values_too_) * Workspace::padded<Pair>(form()); }
  void place(Workspace& workspace) {
    scores_ = workspace.take<Pair>(form());
    if (values_too_) values_ = workspace.take<Pair>(form());
  }

  int64_t padded_rows() const { return rows_; }
  int64_t width() const { return width_; }

  // Takes rows [begin, begin + count), both multiples of kPanel, from `rows` [count, width].
  void pack(int64_t begin, int64_t count, const float* rows) const {
    for (int64_t i = begin; i < begin + count; i += 2) {
      const float* const two = rows + (i - begin) * width_;
      for (int64_t k = 0; k < width_; k += kWide) {
        for (int64_t r = 0; r < 2; ++r) pack_scores(i + r, k, two + r * width_ + k);
        if (values_too_) pack_values(i, k, two + k);
      }
    }
  }

  // S[rows, columns] = this[i.., :] other[j.., :]^T, all in multiples of kPanel.
  void scores(int64_t i, int64_t rows, const PairOperand& other, int64_t j, int64_t columns,
              float* s, int64_t lds) const {
    const int64_t half = width_ / 2;
    for (int64_t k = 0; k < pairs_; k += kDeep) {
      const int64_t deep = std::min(kDeep, pairs_ - k);
      const Pair* const left = scores_ + i * half + k * (natural_ ? 1 : kWide);
      const Pair* const right = other.scores_ + j * half + k * kWide;
      if (natural_) {
        block_product<Pair>({left, half, 1}, right, kWide * half, rows, columns, deep, s, lds,
                            /*accumulate=*/k > 0);
        continue;
      }
      for (int64_t c = 0; c < columns; c += kWide) {
        for (int64_t r = 0; r < rows; r += kWide) {
          block_product<Pair>({left + r * half, 1, kWide}, right + c * half, 0, kWide, kWide, deep,
                              s + r * lds + c, lds, /*accumulate=*/k > 0);
        }
      }
    }
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
                            values_ + (j + n) / 2 * kWide, kWide * rows_ / 2, high, width_,
                            wide / 2, c + r * width_, width_, true);
      }
    }
  }

 private:
  int64_t form() const { return rows_ * width_ / 2; }

  // What row i has from feature k on; `from` are these.
  void pack_scores(int64_t i, int64_t k, const float* from) const {
    const Vec<Pair> all = neighbours(load(from), load(from + kLanes<float>));
    if (natural_) return store(scores_ + (i * width_ + k) / 2, all);
    alignas(64) Pair pairs[kLanes<Pair>];
    store(pairs, all);
    Pair* column = scores_ + i / kWide * kWide * (width_ / 2) + k / 2 * kWide + i % kWide;
    for (int n = 0; n < kLanes<Pair>; ++n) column[n * kWide] = pairs[n];
  }
  // The same of rows i and i + 1.
  void pack_values(int64_t i, int64_t k, const float* from) const {
    Pair* target = values_ + k * (rows_ / 2) + i / 2 * kWide;
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
  bool natural_, values_too_;
  Pair *scores_ = nullptr, *values_ = nullptr;
};

}  // namespace sslk

#endif  // __AVX512BF16__
