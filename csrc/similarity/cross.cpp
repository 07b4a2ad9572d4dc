#include "cross.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../parallel.h"
#include "row_stat.h"

namespace sslk {
namespace {

constexpr int64_t kRows = 64;      // of one stripe of Q
constexpr int64_t kColumns = 128;  // of one stripe of K

// exp(x), zero far below the range and NaN for NaN.
template <class T>
SSLK_INLINE Vec<T> exp_or_zero(Vec<T> x) {
  const auto vanishes = reinterpret_cast<Vec<Bits<T>>>(x < (sizeof(T) == 8 ? T(-700) : T(-87)));
  const Vec<T> e = exp2_scaled<T>(x, T(kLog2E));
  return reinterpret_cast<Vec<T>>(reinterpret_cast<Vec<Bits<T>>>(e) & ~vanishes);
}

template <class T>
class Blocks {
 public:
  explicit Blocks(const Cross<T>& problem) : p_(problem) {}

  int64_t row_stripes() const { return (p_.q->padded_rows() + kRows - 1) / kRows; }
  int64_t column_stripes() const { return (p_.k->padded_rows() + kColumns - 1) / kColumns; }
  int64_t rows(int64_t i) const { return std::min(kRows, p_.q->padded_rows() - i * kRows); }
  int64_t columns(int64_t j) const {
    return std::min(kColumns, p_.k->padded_rows() - j * kColumns);
  }

  // s[rows, columns] of block (i, j), minus infinity where nothing is allowed.
  void scores(int64_t i, int64_t j, T* s, int64_t lds) const {
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    const int64_t first = j * kColumns, count = columns(j);
    p_.q->scores(i * kRows, rows(i), *p_.k, first, count, s, lds);
    for (int64_t r = 0; r < rows(i); ++r) {
      T* row = s + r * lds;
      for (int64_t c = 0; c < count; ++c) row[c] *= p_.scale;
      if (p_.bias != nullptr) {
        for (int64_t c = 0; c < std::min(count, p_.n - first); ++c) row[c] += p_.bias[first + c];
      }
      for (int64_t c = std::max<int64_t>(0, p_.n - first); c < count; ++c) row[c] = kNone;
      for (int64_t e = 0; e < p_.excluded; ++e) {
        const int64_t column = shifted(i * kRows + r, p_.exclude[e]) - first;
        if (column >= 0 && column < count) row[column] = kNone;
      }
    }
  }

  // The column that an offset names in row i.
  int64_t shifted(int64_t i, int64_t offset) const {
    const int64_t column = (i + offset) % p_.n;
    return column < 0 ? column + p_.n : column;
  }

 private:
  const Cross<T>& p_;
};

// A running log-sum-exp.
template <class T>
struct RunningSum {
  T maximum = -std::numeric_limits<T>::infinity();
  T sum = 0;

  void add(const T* row, int64_t count) {
    Vec<T> largest = load(row);
    for (int64_t c = kLanes<T>; c < count; c += kLanes<T>) {
      const Vec<T> x = load(row + c);
      largest = x > largest ? x : largest;
    }
    T top = maximum;
    for (int lane = 0; lane < kLanes<T>; ++lane) top = std::max(top, T(largest[lane]));
    if (top == -std::numeric_limits<T>::infinity()) {  // nothing allowed so far, or only NaN
      for (int64_t c = 0; c < count; ++c) {
        if (std::isnan(row[c])) sum = row[c];
      }
      return;
    }
    Vec<T> total{};
    for (int64_t c = 0; c < count; c += kLanes<T>) total += exp_or_zero<T>(load(row + c) - top);
    sum = sum * std::exp(maximum - top) + sslk::sum(total);
    maximum = top;
  }

  T value() const { return maximum + std::log(sum); }
};

// Scores to weights: grad_i exp(s_ij - lse_i).
template <class T>
void to_weights(T* row, int64_t count, T lse, T grad) {
  if (lse == -std::numeric_limits<T>::infinity()) {
    std::fill(row, row + count, T(0));
    return;
  }
  for (int64_t c = 0; c < count; c += kLanes<T>) {
    store(row + c, exp_or_zero<T>(load(row + c) - lse) * grad);
  }
}

template <class T>
void add_products(const Cross<T>& p, int64_t i, int64_t rows, int64_t j, int64_t columns,
                  const T* w, int64_t ldw, const CrossGradients<T>& out) {
  p.k->accumulate({w, ldw, 1}, rows, j, columns, out.dq + i * p.k->width());
  p.q->accumulate({w, 1, ldw}, columns, i, rows, out.dk + j * p.q->width());
  if (out.dbias == nullptr) return;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < std::min(columns, p.n - j); ++c) out.dbias[j + c] += w[r * ldw + c];
  }
}

}  // namespace

template <class T>
void cross_forward(const Cross<T>& problem, T* lse) {
  const Blocks<T> blocks(problem);
  parallel_ranges(blocks.row_stripes(), [&](int64_t begin, int64_t end) {
    std::vector<T> s(kRows * kColumns);
    for (int64_t i = begin; i < end; ++i) {
      RunningSum<T> sums[kRows];
      for (int64_t j = 0; j < blocks.column_stripes(); ++j) {
        blocks.scores(i, j, s.data(), kColumns);
        for (int64_t r = 0; r < blocks.rows(i); ++r) {
          sums[r].add(s.data() + r * kColumns, blocks.columns(j));
        }
      }
      for (int64_t r = 0; r < std::min(kRows, problem.m - i * kRows); ++r) {
        lse[i * kRows + r] = sums[r].value();
      }
    }
  });
}

template <class T>
void cross_backward(const Cross<T>& problem, const T* lse, const T* grad,
                    const CrossTarget<T>& target, const CrossGradients<T>& out) {
  const Blocks<T> blocks(problem);
  std::vector<std::vector<T>> weights(thread_count(), std::vector<T>(kRows * kColumns));
  auto prepare = [&](int64_t worker, int64_t stripe_i, int64_t stripe_j) {
    T* w = weights[worker].data();
    blocks.scores(stripe_i, stripe_j, w, kColumns);
    const int64_t first = stripe_j * kColumns, count = blocks.columns(stripe_j);
    for (int64_t r = 0; r < blocks.rows(stripe_i); ++r) {
      const int64_t i = stripe_i * kRows + r;
      const bool padding = i >= problem.m;
      T* row = w + r * kColumns;
      to_weights<T>(row, count, padding ? -std::numeric_limits<T>::infinity() : lse[i],
                    padding ? T(0) : grad[i]);
      if (padding || target.weight == nullptr) continue;
      const int64_t column = blocks.shifted(i, target.offset) - first;
      if (column >= 0 && column < count) row[column] = target.weight[i];
    }
  };
  auto commit = [&](int64_t worker, int64_t i, int64_t j) {
    add_products(problem, i * kRows, blocks.rows(i), j * kColumns, blocks.columns(j),
                 weights[worker].data(), kColumns, out);
  };
  run_pipeline(
      blocks.row_stripes(), blocks.column_stripes(), [](int64_t, int64_t) {}, prepare, commit);
}

template <class T>
void cross_forward_backward(const Cross<T>& problem, const T* grad, T* lse,
                            const CrossGradients<T>& out) {
  const Blocks<T> blocks(problem);
  const int64_t width = blocks.column_stripes() * kColumns;
  std::vector<std::vector<T>> strips(thread_count(), std::vector<T>(kRows * width));
  auto begin = [&](int64_t worker, int64_t i) {
    T* strip = strips[worker].data();
    RunningSum<T> sums[kRows];
    for (int64_t j = 0; j < blocks.column_stripes(); ++j) {
      blocks.scores(i, j, strip + j * kColumns, width);
      for (int64_t r = 0; r < blocks.rows(i); ++r) {
        sums[r].add(strip + r * width + j * kColumns, blocks.columns(j));
      }
    }
    for (int64_t r = 0; r < std::min(kRows, problem.m - i * kRows); ++r) {
      lse[i * kRows + r] = sums[r].value();
    }
  };
  auto prepare = [&](int64_t worker, int64_t i, int64_t j) {
    for (int64_t r = 0; r < blocks.rows(i); ++r) {
      const int64_t row = i * kRows + r;
      const bool padding = row >= problem.m;
      to_weights<T>(strips[worker].data() + r * width + j * kColumns, blocks.columns(j),
                    padding ? -std::numeric_limits<T>::infinity() : lse[row],
                    padding ? T(0) : grad[row]);
    }
  };
  auto commit = [&](int64_t worker, int64_t i, int64_t j) {
    add_products(problem, i * kRows, blocks.rows(i), j * kColumns, blocks.columns(j),
                 strips[worker].data() + j * kColumns, width, out);
  };
  run_pipeline(blocks.row_stripes(), blocks.column_stripes(), begin, prepare, commit);
}

#define SSLK_INSTANTIATE(T)                                                                \
  template void cross_forward(const Cross<T>&, T*);                                        \
  template void cross_backward(const Cross<T>&, const T*, const T*, const CrossTarget<T>&, \
                               const CrossGradients<T>&);                                  \
  template void cross_forward_backward(const Cross<T>&, const T*, T*, const CrossGradients<T>&);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
