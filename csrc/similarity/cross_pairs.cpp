// One exponential of a logit serves its row and its column where one shift does for all of them:
//   forward:  2^shift times the exponential of the largest logit that there could be, by the norms
//             of rows, is near the top of the range; sums tell whether that was too near the bottom
//   backward: the lse's are known, and their spread tells
// Otherwise the forward is one pass for rows and one for columns, each with running maxima, and the
// backward takes two exponentials of each logit.
#include "cross_pairs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cross_kernels.h"
#include "cross_range.h"
#include "cross_steps.h"

namespace sslk {
namespace {

// Forward: adds the exponentials of a block to the sums of its rows and columns.
template <class T>
class PairSums {
 public:
  static constexpr int kSteps = kBlockColumns / 2;

  PairSums(const LogitMap<T>& map, T shift) : scale_(map.scale), shift_(shift) {}

  // present: 0, or kAbsent. The sums of columns are vectors over rows.
  void begin(const Block<T>& block, const T* present, T* row_sums, Vec<T>* column_sums) {
    block_ = block;
    row_sums_ = row_sums;
    column_sums_ = column_sums;
    for (int h = 0; h < 2; ++h) {
      present_[h] = load(present + h * kLanes<T>);
      sum_[h] = load(row_sums + h * kLanes<T>);
    }
    step_ = 0;
    if (block.columns == kBlockColumns) return;
    for (int c = 0; c < block.columns; ++c) add(c);
    step_ = kSteps - 1;
    finish();
  }
  SSLK_INLINE void step() {
    if (step_ == kSteps) return;
    add(2 * step_);
    add(2 * step_ + 1);
    finish();
  }
  void drain() {
    while (step_ != kSteps) step();
  }

 private:
  SSLK_INLINE void add(int c) {
    Vec<T> e[2];
    for (int h = 0; h < 2; ++h) {
      e[h] = exp2_or_zero<T>(load(block_.row(c) + h * kLanes<T>) * scale_ + present_[h], shift_);
      sum_[h] += e[h];
    }
    column_sums_[c] += e[0] + e[1];
  }
  SSLK_INLINE void finish() {
    if (++step_ < kSteps) return;
    for (int h = 0; h < 2; ++h) store(row_sums_ + h * kLanes<T>, sum_[h]);
  }

  const T scale_, shift_;
  Block<T> block_{};
  T* row_sums_ = nullptr;
  Vec<T>* column_sums_ = nullptr;
  Vec<T> present_[2], sum_[2];
  int step_ = kSteps;
};

// What the weights of a group of rows, or of a block of columns, are made of.
template <class T>
struct SideGradients {
  // With one shift: exponentials are multiplied by `factor`; else the lse, times log2(e), is taken
  // off first.
  const T *lse, *factor;

  SideGradients at(int64_t i) const { return {lse + i, factor + i}; }
};

// Backward: the gradients of logits from those of both lse's and of the pairs.
template <class T, class Store, bool OneShift>
class PairWeights : public WeightSteps<T, Store, PairWeights<T, Store, OneShift>> {
 public:
  PairWeights(const LogitMap<T>& map, T shift) : scale_(map.scale), shift_(shift) {}

  void begin(const Block<T>& block, const Marked& marked, const T* present,
             const SideGradients<T>& rows, const SideGradients<T>& columns, const T* of_pair,
             const Store& store) {
    this->start(block, store);
    columns_ = columns;
    for (int h = 0; h < 2; ++h) {
      present_[h] = load(present + h * kLanes<T>);
      row_lse_[h] = load(rows.lse + h * kLanes<T>);
      row_factor_[h] = load(rows.factor + h * kLanes<T>);
    }
    if (this->is_plain(marked)) return;
    this->finish_at_once([&](int c, int h) { return weigh(c, h); },
                         [&](auto&& weight) {
                           marked.template each_target<kGroupRows<T>>(
                               block.first, [&](int r, int64_t c) { weight(r, c) += of_pair[r]; });
                         });
  }
  SSLK_INLINE Vec<T> weigh(int c, int h) const {
    const Vec<T> y = load(this->block_.row(c) + h * kLanes<T>) * scale_ + present_[h];
    const T factor = columns_.factor[c];
    if constexpr (OneShift) return exp2_or_zero<T>(y, shift_) * (row_factor_[h] + factor);
    return exp2_or_zero<T>(y - row_lse_[h]) * row_factor_[h] +
           exp2_or_zero<T>(y - columns_.lse[c]) * factor;
  }

 private:
  const T scale_, shift_;
  SideGradients<T> columns_{};
  Vec<T> present_[2], row_lse_[2], row_factor_[2];
};

template <class Kernel>
class PairPass {
  using T = typename Kernel::Scalar;
  using Store = typename Kernel::Store;

 public:
  PairPass(const CrossPass<Kernel>& pass, const Logits& problem)
      : pass_(pass), p_(problem), present_(pass.padded_rows(), kAbsent<T>) {
    std::fill_n(present_.begin(), p_.m, T(0));
  }

  // False when one shift does not do for all rows and columns; then `out` is not complete.
  bool forward(const PairTerms<T>& out) const {
    const int64_t rows = pass_.padded_rows(), parts = pass_.forward_parts();
    const double bound = largest_logit(p_);
    if (!(bound < 4 * kRange<T>)) return false;
    const double terms = double(std::max(p_.m, p_.n));
    const double shift = std::floor(kRange<T> - 2 - std::log2(terms) - bound);
    std::vector<T> row_sums(parts * rows, T(0)), column_sums(p_.n);
    pass_.scan([&](int64_t part) {
      return SumPart(pass_, T(shift), present_.data(), row_sums.data() + part * rows,
                     column_sums.data(), out.pair_logit);
    });
    const double least = least_sum<T>(terms);
    bool enough = true;
    auto lse = [&](double sum) {
      if (!(sum >= least && sum < HUGE_VAL)) enough = false;
      return T(log_shifted(sum, shift));
    };
    for (int64_t i = 0; i < p_.m && enough; ++i) {
      double sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += row_sums[part * rows + i];
      out.row_lse[i] = lse(sum);
    }
    for (int64_t j = 0; j < p_.n && enough; ++j) out.column_lse[j] = lse(column_sums[j]);
    return enough;
  }

  void backward(const T* row_lse, const T* column_lse, const PairGradients<T>& grad,
                const LogitGradients<T>& out) const {
    double low = HUGE_VAL, high = -HUGE_VAL;
    bool finite = true;
    auto look = [&](const T* lse, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const double y = lse[i] * kLog2E;
        finite = finite && std::isfinite(y);
        low = std::min(low, y), high = std::max(high, y);
      }
    };
    look(row_lse, p_.m);
    look(column_lse, p_.n);
    // Exponentials up to 2^(range / 2): a probability below 2^-(range / 2 + range - spread) is
    // lost.
    const bool one_shift = finite && high - low < 5 * kRange<T> / 8;
    const double shift = one_shift ? std::floor(kRange<T> / 2 - high) : 0;
    if (one_shift) {
      weigh<true>(shift, row_lse, column_lse, grad, out);
    } else {
      weigh<false>(shift, row_lse, column_lse, grad, out);
    }
  }

 private:
  struct SumPart {
    PairSums<T> sink;
    const T scale;
    const T* present;
    T *row_sums, *to_columns, *pair_logit;
    Vec<T> column_sums[Kernel::kForwardColumns] = {};

    SumPart(const CrossPass<Kernel>& pass, T shift, const T* rows, T* of_rows, T* of_columns,
            T* of_pairs)
        : sink(pass.map(), shift),
          scale(pass.map().scale),
          present(rows),
          row_sums(of_rows),
          to_columns(of_columns),
          pair_logit(of_pairs) {}

    void begin(int64_t b, const Block<T>& block, const Marked& marked, int64_t at) {
      if (Marked::meets<kGroupRows<T>>(marked.target, block.first)) {
        marked.template each_target<kGroupRows<T>>(block.first, [&](int r, int64_t c) {
          pair_logit[at + r] = T(double(scale * block.row(c)[r]) / kLog2E);
        });
      }
      sink.begin(block, present + at, row_sums + at, column_sums + b * kBlockColumns);
    }
    void close(int64_t first, int64_t count) {
      for (int64_t c = 0; c < count; ++c) {
        to_columns[first + c] = sum(column_sums[c]);
        column_sums[c] = Vec<T>{};
      }
    }
  };

  template <bool OneShift>
  struct WeightChunk {
    PairWeights<T, Store, OneShift> sink;
    const int64_t first;
    const T* present;
    const SideGradients<T> rows, columns;
    const T* of_pair;

    void begin(int64_t b, const Block<T>& block, const Marked& marked, int64_t at,
               const Store& store) {
      sink.begin(block, marked, present + at, rows.at(at), columns.at(first + b * kBlockColumns),
                 of_pair + at, store);
    }
    void take_turn(int64_t, int64_t) const {}
    void close(int64_t, int64_t) const {}
  };

  template <bool OneShift>
  void weigh(double shift, const T* row_lse, const T* column_lse, const PairGradients<T>& grad,
             const LogitGradients<T>& out) const {
    const int64_t rows = pass_.padded_rows();
    const int64_t columns = pass_.backward_chunks() * Kernel::kBackwardColumns;
    std::vector<T> lse(rows + columns, -kAbsent<T>), factor(rows + columns, T(0));
    std::vector<T> of_pair(rows, T(0));
    auto fill = [&](const T* from, const T* of_lse, int64_t count, int64_t to) {
      for (int64_t i = 0; i < count; ++i) {
        if (from[i] == -std::numeric_limits<T>::infinity()) continue;  // no gradient
        const double y = from[i] * kLog2E;
        lse[to + i] = T(y);
        factor[to + i] = OneShift ? T(of_lse[i] * std::exp2(-shift - y)) : of_lse[i];
      }
    };
    fill(row_lse, grad.row_lse, p_.m, 0);
    fill(column_lse, grad.column_lse, p_.n, rows);
    std::copy_n(grad.pair_logit, p_.m, of_pair.begin());
    const SideGradients<T> of_rows{lse.data(), factor.data()};
    pass_.weigh(
        [&](int64_t chunk) {
          return WeightChunk<OneShift>{{pass_.map(), T(shift)}, chunk * Kernel::kBackwardColumns,
                                       present_.data(),         of_rows,
                                       of_rows.at(rows),        of_pair.data()};
        },
        out);
  }

  const CrossPass<Kernel>& pass_;
  const Logits& p_;
  std::vector<T> present_;
};

Logits transposed(const Logits& problem) {
  Logits other = problem;
  std::swap(other.q, other.k);
  std::swap(other.m, other.n);
  other.target = nullptr;
  return other;
}

}  // namespace

template <class Acc>
void pair_forward(const Logits& problem, const PairTerms<Acc>& out) {
  bool done = false;
  with_pass<Acc>(problem, [&]<class Kernel>(const CrossPass<Kernel>& pass) {
    done = PairPass<Kernel>(pass, problem).forward(out);
  });
  if (done) return;
  cross_forward<Acc>(problem, {out.row_lse, out.pair_logit});
  cross_forward<Acc>(transposed(problem), {out.column_lse});
}

template <class Acc>
void pair_backward(const Logits& problem, const Acc* row_lse, const Acc* column_lse,
                   const PairGradients<Acc>& grad, const LogitGradients<Acc>& out) {
  with_pass<Acc>(problem, [&]<class Kernel>(const CrossPass<Kernel>& pass) {
    PairPass<Kernel>(pass, problem).backward(row_lse, column_lse, grad, out);
  });
}

#define SSLK_INSTANTIATE(T)                                                               \
  template void pair_forward(const Logits&, const PairTerms<T>&);                         \
  template void pair_backward(const Logits&, const T*, const T*, const PairGradients<T>&, \
                              const LogitGradients<T>&);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
