// The vector work on one block of products, in steps small enough to run between tile products:
// products become logits, and logits become the terms of a row or the weights of its gradient.
//
// A block is 32 columns of the problem (rows of K) by one group of its rows (rows of Q): 32 rows of
// memory, two vectors each. A row of the problem is a lane, so no sum runs across lanes. Logits are
// in units of log 2 here, for the exponentials.
#pragma once

#include <cstdint>
#include <limits>

#include "../simd.h"
#include "row_stat.h"
#include "tanh.h"

namespace sslk {

constexpr int kBlockColumns = 32;
template <class T>
constexpr int kGroupRows = 2 * kLanes<T>;

template <class T>
SSLK_INLINE Vec<T> largest(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

// Below it powers of two count for nothing; negated, above it they are too large.
template <class T>
constexpr T kLowestExponent = sizeof(T) == 8 ? T(-1010) : T(-125);

// 2^(x + n), n an integer: zero far below the range, NaN for NaN; x + n within it above.
template <class T>
SSLK_INLINE Vec<T> exp2_or_zero(Vec<T> x, T n = 0) {
  const auto vanishes = reinterpret_cast<Vec<Bits<T>>>(x < kLowestExponent<T> - n);
  const Vec<T> e = exp2_scaled<T>(x, T(1), n);
  return reinterpret_cast<Vec<T>>(reinterpret_cast<Vec<Bits<T>>>(e) & ~vanishes);
}

// From a product to a logit, and the slope of the cap there.
template <class T>
struct LogitMap {
  T scale;    // times log2(e)
  T cap = 0;  // times log2(e); 0: none

  SSLK_INLINE Vec<T> logit(Vec<T> product, T bias) const {
    const Vec<T> x = product * scale + bias;
    return cap == 0 ? x : capped(x);
  }
  SSLK_INLINE Vec<T> slope(Vec<T> logit) const {
    const Vec<T> t = logit / cap;
    return T(1) - t * t;
  }

 private:
  Vec<T> capped(Vec<T> x) const { return cap * tanh_of<T>(x / cap); }
};

// Where in the columns a block lies, and what is particular about it.
template <class T>
struct Block {
  T* tile;  // [32, two vectors], rows `stride` apart
  int64_t stride;
  int64_t first;    // column of the problem
  int64_t columns;  // of the problem, in this block; fewer than 32 at the end
  const T* bias;    // [32], times log2(e)
  const T* weight;  // [32], or null

  T* row(int64_t c) const { return tile + c * stride; }
};

// The columns that stand out for the rows of a group: the one asked for, and those left out.
struct Marked {
  const int32_t* target;    // [rows of the group], -1: none
  const int32_t* excluded;  // the same for each offset, `step` apart
  int64_t offsets, step;

  template <int Rows>
  SSLK_INLINE static bool meets(const int32_t* columns, int64_t first) {
    uint32_t hit = 0;
    for (int r = 0; r < Rows; ++r) hit |= uint32_t(columns[r] - int32_t(first)) < kBlockColumns;
    return hit != 0;
  }
  template <int Rows>
  bool any_in(int64_t first) const {
    if (meets<Rows>(target, first)) return true;
    for (int64_t e = 0; e < offsets; ++e) {
      if (meets<Rows>(excluded + e * step, first)) return true;
    }
    return false;
  }
  // Calls f(row of the group, column of the block) for every row that asks for one in it.
  template <int Rows, class F>
  void each_target(int64_t first, F&& f) const {
    each<Rows>(target, first, f);
  }
  template <int Rows, class F>
  void each_excluded(int64_t first, F&& f) const {
    for (int64_t e = 0; e < offsets; ++e) each<Rows>(excluded + e * step, first, f);
  }

 private:
  template <int Rows, class F>
  static void each(const int32_t* columns, int64_t first, F&& f) {
    for (int r = 0; r < Rows; ++r) {
      const uint32_t column = uint32_t(columns[r] - int32_t(first));
      if (column < kBlockColumns) f(r, int64_t(column));
    }
  }
};

// The running terms of one group of rows, in memory between blocks.
template <class T>
struct RunningTerms {
  T *maximum, *sum, *weighted, *target;  // [rows of the group]; the last two may be null

  // Below every logit but -inf, so that differences to it are numbers.
  static constexpr T kLowest = sizeof(T) == 8 ? T(-1e300) : T(-1e30);
};

// Forward: adds a block to the running terms.
template <class T>
class TermSums {
 public:
  static constexpr int kSteps = kBlockColumns;  // two columns each: logits, then exponentials

  explicit TermSums(const LogitMap<T>& map) : map_(map) {}

  void begin(const Block<T>& block, const Marked& marked, const RunningTerms<T>& to) {
    block_ = block;
    to_ = to;
    for (int h = 0; h < 2; ++h) {
      before_[h] = maximum_[h] = load(to.maximum + h * kLanes<T>);
      weighted_[h] = Vec<T>{};
    }
    step_ = 0;
    if (block.columns < kBlockColumns || marked.template any_in<kGroupRows<T>>(block.first)) {
      take_marked(marked);
    }
  }
  SSLK_INLINE void step() {
    if (step_ == kSteps) return;
    if (step_ < kSteps / 2) {
      for (int c = 2 * step_; c < 2 * step_ + 2; ++c) to_logits(c);
      if (++step_ == kSteps / 2) start_sums();
      return;
    }
    for (int c = 2 * step_ - kBlockColumns; c < 2 * step_ - kBlockColumns + 2; ++c) {
      for (int h = 0; h < 2; ++h) {
        sum_[h] += exp2_or_zero<T>(load(block_.row(c) + h * kLanes<T>) - maximum_[h]);
      }
    }
    if (++step_ == kSteps) {
      for (int h = 0; h < 2; ++h) store(to_.sum + h * kLanes<T>, sum_[h]);
    }
  }
  void drain() {
    while (step_ != kSteps) step();
  }

 private:
  SSLK_INLINE void to_logits(int c) {
    for (int h = 0; h < 2; ++h) {
      T* at = block_.row(c) + h * kLanes<T>;
      const Vec<T> y = map_.logit(load(at), block_.bias[c]);
      store(at, y);
      maximum_[h] = largest<T>(y, maximum_[h]);
      if (block_.weight != nullptr) weighted_[h] += block_.weight[c] * y;
    }
  }
  void start_sums() {
    for (int h = 0; h < 2; ++h) {
      const int at = h * kLanes<T>;
      sum_[h] = load(to_.sum + at) * exp2_or_zero<T>(before_[h] - maximum_[h]);
      store(to_.maximum + at, maximum_[h]);
      if (block_.weight != nullptr)
        store(to_.weighted + at, load(to_.weighted + at) + weighted_[h]);
    }
  }
  // The first half at once, for a block where single logits matter.
  void take_marked(const Marked& marked) {
    constexpr int kRows = kGroupRows<T>;
    for (int c = 0; c < kBlockColumns; ++c) to_logits(c);
    if (to_.target != nullptr) {
      marked.template each_target<kRows>(
          block_.first, [&](int r, int64_t c) { to_.target[r] = block_.row(c)[r]; });
    }
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    marked.template each_excluded<kRows>(block_.first,
                                         [&](int r, int64_t c) { block_.row(c)[r] = kNone; });
    for (int64_t c = block_.columns; c < kBlockColumns; ++c) {
      for (int r = 0; r < kRows; ++r) block_.row(c)[r] = kNone;
    }
    for (int h = 0; h < 2; ++h) {  // again, without what was left out
      maximum_[h] = before_[h];
      for (int c = 0; c < kBlockColumns; ++c) {
        maximum_[h] = largest<T>(load(block_.row(c) + h * kLanes<T>), maximum_[h]);
      }
    }
    step_ = kSteps / 2;
    start_sums();
  }

  const LogitMap<T> map_;
  Block<T> block_{};
  RunningTerms<T> to_{};
  Vec<T> before_[2], maximum_[2], weighted_[2], sum_[2];
  int step_ = kSteps;
};

// Upstream gradients of one group's terms; `lse` in units of log 2, out of reach for rows without
// gradient.
template <class T>
struct GroupGradients {
  const T *lse, *of_lse, *of_target, *of_sum;  // [rows of the group]

  static constexpr T kOutOfReach = sizeof(T) == 8 ? T(1e300) : T(1e30);
};

// Backward: from a block of products to the gradient of its logits, handed over to
// Store::put(c, g): two columns c and c + 1 of the block, g[2 columns][2 vectors].
template <class T, class Store>
class LogitWeights {
 public:
  static constexpr int kSteps = kBlockColumns / 2;

  explicit LogitWeights(const LogitMap<T>& map) : map_(map) {}

  // column_sums: [32] vectors to which the gradients of each column are added, or null.
  void begin(const Block<T>& block, const Marked& marked, const GroupGradients<T>& grad,
             Vec<T>* column_sums, const Store& store) {
    block_ = block;
    column_sums_ = column_sums;
    store_ = store;
    for (int h = 0; h < 2; ++h) {
      const int at = h * kLanes<T>;
      lse_[h] = load(grad.lse + at);
      of_lse_[h] = load(grad.of_lse + at);
      of_sum_[h] = load(grad.of_sum + at);
    }
    step_ = 0;
    if (block.columns < kBlockColumns || marked.template any_in<kGroupRows<T>>(block.first)) {
      take_marked(marked, grad);
    }
  }
  SSLK_INLINE void step() {
    if (step_ == kSteps) return;
    Vec<T> y[2][2], g[2][2];
    for (int k = 0; k < 2; ++k) {
      for (int h = 0; h < 2; ++h) weigh(2 * step_ + k, h, y[k][h], g[k][h]);
    }
    finish(2 * step_, y, g);
    ++step_;
  }
  void drain() {
    while (step_ != kSteps) step();
  }

 private:
  // A logit and its gradient, without the slope of the cap.
  SSLK_INLINE void weigh(int c, int h, Vec<T>& y, Vec<T>& g) const {
    y = map_.logit(load(block_.row(c) + h * kLanes<T>), block_.bias[c]);
    g = of_lse_[h] * exp2_or_zero<T>(y - lse_[h]);
    if (block_.weight != nullptr) g += of_sum_[h] * block_.weight[c];
  }
  SSLK_INLINE void finish(int c, Vec<T> (&y)[2][2], Vec<T> (&g)[2][2]) {
    if (map_.cap != 0) {
      for (int k = 0; k < 2; ++k) {
        for (int h = 0; h < 2; ++h) g[k][h] *= map_.slope(y[k][h]);
      }
    }
    if (column_sums_ != nullptr) {
      for (int k = 0; k < 2; ++k) column_sums_[c + k] += g[k][0] + g[k][1];
    }
    store_.put(c, g);
  }
  // The whole block at once, where single gradients matter.
  void take_marked(const Marked& marked, const GroupGradients<T>& grad) {
    constexpr int kRows = kGroupRows<T>;
    Vec<T> y[kBlockColumns][2], g[kBlockColumns][2];
    for (int c = 0; c < kBlockColumns; ++c) {
      for (int h = 0; h < 2; ++h) {
        weigh(c, h, y[c][h], g[c][h]);
        if (c >= block_.columns) g[c][h] = Vec<T>{};
      }
    }
    auto at = [&](int r, int64_t c) -> T& {
      return reinterpret_cast<T*>(&g[c][r / kLanes<T>])[r % kLanes<T>];
    };
    marked.template each_excluded<kRows>(block_.first, [&](int r, int64_t c) { at(r, c) = 0; });
    marked.template each_target<kRows>(block_.first,
                                       [&](int r, int64_t c) { at(r, c) += grad.of_target[r]; });
    for (; step_ != kSteps; ++step_) {
      Vec<T> pair_y[2][2], pair_g[2][2];
      for (int k = 0; k < 2; ++k) {
        for (int h = 0; h < 2; ++h) {
          pair_y[k][h] = y[2 * step_ + k][h];
          pair_g[k][h] = g[2 * step_ + k][h];
        }
      }
      finish(2 * step_, pair_y, pair_g);
    }
  }

  const LogitMap<T> map_;
  Block<T> block_{};
  Store store_{};
  Vec<T>* column_sums_ = nullptr;
  Vec<T> lse_[2], of_lse_[2], of_sum_[2];
  int step_ = kSteps;
};

}  // namespace sslk
