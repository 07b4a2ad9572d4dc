#include "symmetric_vector.h"

#include <algorithm>
#include <vector>

#include "../parallel.h"
#include "../workspace.h"
#include "cross.h"
#include "operand.h"
#include "pair_operand.h"
#include "row_stat.h"
#include "view_matrix.h"

namespace sslk {
namespace {

constexpr int64_t kStripe = 128;  // rows of one stripe: a block of scores stays in L2

// The symmetric algorithm on blocks of scores, upper triangle only (parallel.h for the order).
template <class T, class Matrix>
class SymmetricKernel {
 public:
  SymmetricKernel(const Symmetric& problem, bool values)
      : problem_(problem),
        m_(problem.views.rows()),
        c_(T(problem.scale * kLog2E)),
        z_(m_, problem.views.d, Sides::kBoth, values),
        tournament_((z_.padded_rows() + kStripe - 1) / kStripe) {}

  bool forward(const SymmetricForward<T>& out) {
    if (problem_.normalize && c_ > kLargestExponent<T>) return false;
    const int64_t padded = z_.padded_rows();
    Workspace workspace(z_.bytes() + 2 * Workspace::padded<T>(padded) + block_bytes());
    z_.place(workspace);
    sums_ = workspace.take<T>(padded);
    positive_ = workspace.take<T>(padded);
    place_blocks(workspace);
    std::fill(sums_, sums_ + padded, T(0));
    std::fill(positive_, positive_ + padded, T(0));
    if (!in_range(load_views<T, true>(problem_, z_, out.inv_norm))) return false;
    tournament_.run([&](int64_t worker, int64_t i, int64_t j) { add_sums(i, j, blocks_[worker]); });
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        out.row_stat[i] = sums_[i];
        out.row_stat[m_ + i] = positive_[i];
        out.rows[i] = T(RowStat{double(sums_[i]), double(positive_[i])}.loss(problem_));
      }
    });
    return true;
  }

  bool backward(const SymmetricBackward<T>& out) {
    if (problem_.normalize && c_ > kLargestExponent<T>) return false;
    const int64_t padded = z_.padded_rows();
    const int64_t of_gradient = sums_in_place() ? 0 : padded * z_.width();
    Workspace workspace(z_.bytes() + 3 * Workspace::padded<T>(padded) +
                        Workspace::padded<T>(of_gradient) + block_bytes());
    z_.place(workspace);
    sums_ = workspace.take<T>(padded);
    positive_ = workspace.take<T>(padded);
    T* dots = workspace.take<T>(padded);
    dz_ = of_gradient ? workspace.take<T>(of_gradient) : static_cast<T*>(out.dz1);
    place_blocks(workspace);
    if (!in_range(load_views<T, false>(problem_, z_, const_cast<T*>(out.inv_norm)))) return false;
    std::fill(dz_, dz_ + padded * z_.width(), T(0));
    std::fill(sums_ + m_, sums_ + padded, T(0));
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RowStat stat = RowStat::read(problem_, out, i);
        const double total = stat.sum(problem_);
        sums_[i] = T(out.grad[i] / total);
        positive_[i] = T(out.grad[i] * stat.slope(problem_, total));
      }
    });
    tournament_.run([&](int64_t worker, int64_t i, int64_t j) { add_dz(i, j, blocks_[worker]); });
    // Every score is counted from both its rows.
    *out.dscale = T(0.5) * store_gradients(problem_, z_.width(), dz_, out, dots);
    return true;
  }

 private:
  bool in_range(T largest_square) const { return c_ * largest_square <= kLargestExponent<T>; }

  // Whether the gradient may be summed where it is wanted: its rows lie as those of z do.
  bool sums_in_place() const {
    const Views& views = problem_.views;
    return !views.paired() && element_size(views.dtype) == sizeof(T) && m_ == z_.padded_rows() &&
           views.d == z_.width();
  }

  size_t block_bytes() const { return thread_count() * Workspace::padded<T>(kStripe * kStripe); }
  void place_blocks(Workspace& workspace) {
    for (int t = 0; t < thread_count(); ++t)
      blocks_.push_back(workspace.take<T>(kStripe * kStripe));
  }

  struct Block {
    int64_t i, rows, j, columns;
    T* s;  // [rows, kStripe]
    bool diagonal() const { return i == j; }
  };
  Block scores(int64_t stripe_i, int64_t stripe_j, T* s) const {
    auto length = [&](int64_t first) { return std::min(kStripe, z_.padded_rows() - first); };
    const int64_t i = stripe_i * kStripe, j = stripe_j * kStripe;
    const Block block{i, length(i), j, length(j), s};
    z_.scores(i, block.rows, z_, j, block.columns, s, kStripe);
    return block;
  }

  // Calls visit(i, j, element) for every pair of the block that is no negative: padding, the row
  // itself, its partner.
  template <class Visit>
  void visit_exceptions(const Block& block, Visit&& visit) const {
    for (int64_t r = 0; r < block.rows; ++r) {
      const int64_t i = block.i + r;
      T* row = block.s + r * kStripe;
      auto column = [&](int64_t j) {
        if (j >= block.j && j < block.j + block.columns) visit(i, j, row[j - block.j]);
      };
      if (i < m_) {
        if (problem_.exclude_self) column(i);
        column(problem_.views.partner(i));
      }
      for (int64_t j = i < m_ ? std::max(m_, block.j) : block.j; j < block.j + block.columns; ++j) {
        column(j);
      }
    }
  }

  void exponentials(const Block& block) const {
    for (int64_t r = 0; r < block.rows; ++r) {
      T* row = block.s + r * kStripe;
      for (int64_t k = 0; k < block.columns; k += kLanes<T>) {
        store(row + k, exp2_scaled<T>(load(row + k), c_));
      }
    }
  }

  void add_sums(int64_t stripe_i, int64_t stripe_j, T* buffer) {
    const Block block = scores(stripe_i, stripe_j, buffer);
    visit_exceptions(block, [&](int64_t i, int64_t j, T score) {
      if (i < m_ && j == problem_.views.partner(i)) positive_[i] = positive_[j] = score;
    });
    exponentials(block);
    visit_exceptions(block, [](int64_t, int64_t, T& e) { e = 0; });
    alignas(64) T columns[kStripe] = {};
    for (int64_t r = 0; r < block.rows; ++r) {
      const T* row = block.s + r * kStripe;
      Vec<T> total{};
      for (int64_t k = 0; k < block.columns; k += kLanes<T>) {
        const Vec<T> e = load(row + k);
        total += e;
        store(columns + k, load(columns + k) + e);
      }
      sums_[block.i + r] += sum(total);
    }
    if (block.diagonal()) return;  // its rows hold both triangles
    for (int64_t k = 0; k < block.columns; ++k) sums_[block.j + k] += columns[k];
  }

  // W_ij = exp(s_ij) (g_i / l_i + g_j / l_j); the positive pair's weight is g_i (p_ij - 1) +
  // g_j (p_ji - 1), so that no large terms are left to cancel in dZ += W Z.
  void add_dz(int64_t stripe_i, int64_t stripe_j, T* buffer) {
    const Block block = scores(stripe_i, stripe_j, buffer);
    for (int64_t r = 0; r < block.rows; ++r) {
      T* row = block.s + r * kStripe;
      const T factor = sums_[block.i + r];
      for (int64_t k = 0; k < block.columns; k += kLanes<T>) {
        const Vec<T> both = load(sums_ + block.j + k) + factor;
        store(row + k, exp2_scaled<T>(load(row + k), c_) * both);
      }
    }
    visit_exceptions(block, [&](int64_t i, int64_t j, T& w) {
      w = i < m_ && j == problem_.views.partner(i) ? positive_[i] + positive_[j] : T(0);
    });
    const int64_t width = z_.width();
    z_.accumulate({block.s, kStripe, 1}, block.rows, block.j, block.columns, dz_ + block.i * width);
    if (block.diagonal()) return;
    z_.accumulate({block.s, 1, kStripe}, block.columns, block.i, block.rows, dz_ + block.j * width);
  }

  const Symmetric& problem_;
  const int64_t m_;
  const T c_;  // exp(score) = 2^(c_ <z_i, z_j>)
  Matrix z_;
  const Tournament tournament_;
  std::vector<T*> blocks_;  // one a worker
  T* sums_ = nullptr;       // forward: over the negatives of exp(s_ij); backward: g_i / l_i
  T* positive_ = nullptr;   // forward: <z_i, z_partner>; backward: g_i (p_i,partner - 1)
  T* dz_ = nullptr;
};

// Calls f with the kernel that multiplies as the problem's precision asks for.
template <class T, class F>
bool with_kernel(const Symmetric& problem, bool values, F&& f) {
#ifdef __AVX512BF16__
  if constexpr (std::is_same_v<T, float>) {
    if (in_bfloat16(problem.views.dtype, problem.precision)) {
      return f(SymmetricKernel<float, PairOperand>(problem, values));
    }
  }
#endif
  return f(SymmetricKernel<T, Operand<T>>(problem, values));
}

}  // namespace

template <class T>
bool symmetric_vector_forward(const Symmetric& problem, const SymmetricForward<T>& out) {
  return with_kernel<T>(problem, /*values=*/false,
                        [&](auto&& kernel) { return kernel.forward(out); });
}
template <class T>
bool symmetric_vector_backward(const Symmetric& problem, const SymmetricBackward<T>& out) {
  return with_kernel<T>(problem, /*values=*/true,
                        [&](auto&& kernel) { return kernel.backward(out); });
}

namespace {

// Rows as they are.
template <class T>
class PlainRows {
 public:
  PlainRows(int64_t rows, int64_t width) : rows_(pad_rows(rows)), width_(width) {}

  size_t bytes() const { return Workspace::padded<T>(rows_ * width_); }
  void place(Workspace& workspace) { data_ = workspace.take<T>(rows_ * width_); }
  int64_t padded_rows() const { return rows_; }
  int64_t width() const { return width_; }
  T* row(int64_t i) const { return data_ + i * width_; }
  void pack(int64_t begin, int64_t count, const T* rows) const {
    std::copy_n(rows, count * width_, row(begin));
  }

 private:
  int64_t rows_, width_;
  T* data_ = nullptr;
};

// z, its weights and the exclusions of the problem, as a softmax of z against z.
template <class T>
class General {
 public:
  explicit General(const Symmetric& problem)
      : problem_(problem),
        m_(problem.views.rows()),
        z_(m_, (problem.views.d + kLanes<T> - 1) / kLanes<T> * kLanes<T>),
        partner_(m_) {
    for (int64_t i = 0; i < m_; ++i) partner_[i] = std::max<int64_t>(0, problem.views.partner(i));
  }

  void forward(const SymmetricForward<T>& out) {
    Workspace workspace(z_.bytes());
    z_.place(workspace);
    load_views<T, true>(problem_, z_, out.inv_norm);
    cross_forward<T>(logits(), {out.row_stat});  // over the negatives
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T positive = 0;
        const int64_t partner = problem_.views.partner(i);
        for (int64_t k = 0; partner >= 0 && k < z_.width(); ++k) {
          positive += z_.row(i)[k] * z_.row(partner)[k];
        }
        positive *= T(problem_.scale);
        out.row_stat[m_ + i] = positive;
        out.rows[i] = loss(out.row_stat[i], positive);
      }
    });
  }

  void backward(const SymmetricBackward<T>& out) {
    const int64_t count = m_ * z_.width();
    Workspace workspace(z_.bytes() + 4 * Workspace::padded<T>(m_) +
                        2 * Workspace::padded<T>(count));
    z_.place(workspace);
    T* all = workspace.take<T>(m_);  // lse with the positive
    T* grad = workspace.take<T>(m_);
    T* of_positive = workspace.take<T>(m_);
    T* dots = workspace.take<T>(m_);
    T* dq = workspace.take<T>(count);
    T* dk = workspace.take<T>(count);
    load_views<T, false>(problem_, z_, const_cast<T*>(out.inv_norm));
    for (int64_t i = 0; i < m_; ++i) {
      const T negatives = out.row_stat ? out.row_stat[i] : out.lse[i];
      const T positive = out.row_stat ? out.row_stat[m_ + i] : T(0);
      all[i] = positive_counts() ? positive + softplus(negatives - positive) : negatives;
      grad[i] = out.grad[i];
      of_positive[i] = problem_.views.paired() ? -grad[i] : T(0);
      if (positive_counts()) of_positive[i] /= T(1) + std::exp(positive - negatives);
    }
    T unused;
    cross_backward<T>(logits(), all, {grad, of_positive},
                      {dq, dk, sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32, &unused});
    const T unscale = T(1 / problem_.scale);
    parallel_ranges(count, [&](int64_t begin, int64_t end) {
      for (int64_t e = begin; e < end; ++e) dq[e] = unscale * (dq[e] + dk[e]);
    });
    *out.dscale = T(0.5) * store_gradients(problem_, z_.width(), dq, out, dots);
  }

 private:
  // z against z, without the row itself and, since its gradient is known better, its positive.
  Logits logits() const {
    const Dtype dtype = sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32;
    Logits out{z_.row(0), z_.row(0), dtype, m_, m_, z_.width(), problem_.scale, problem_.precision};
    const int64_t first = problem_.exclude_self ? 0 : 1;
    out.exclude = offsets_ + first;
    out.excluded = (problem_.views.paired() ? 2 : 1) - first;
    out.target = partner_.data();
    return out;
  }
  // Whether the positive is one of the terms of the log-sum-exp.
  bool positive_counts() const { return problem_.views.paired() && !problem_.exclude_partner; }
  // A row's loss from its negatives' log-sum-exp and its positive score.
  T loss(T negatives, T positive) const {
    return positive_counts() ? softplus(negatives - positive) : negatives - positive;
  }
  static T softplus(T x) { return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x))); }

  const Symmetric& problem_;
  const int64_t m_;
  PlainRows<T> z_;
  std::vector<int64_t> partner_;  // the row itself where there is no pair: its gradient is zero
  const int64_t offsets_[2] = {0, problem_.views.n};
};

}  // namespace

template <class T>
void symmetric_general_forward(const Symmetric& problem, const SymmetricForward<T>& out) {
  General<T>(problem).forward(out);
}
template <class T>
void symmetric_general_backward(const Symmetric& problem, const SymmetricBackward<T>& out) {
  General<T>(problem).backward(out);
}

#define SSLK_INSTANTIATE(T)                                                              \
  template void symmetric_general_forward(const Symmetric&, const SymmetricForward<T>&); \
  template void symmetric_general_backward(const Symmetric&, const SymmetricBackward<T>&);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

template bool symmetric_vector_forward(const Symmetric&, const SymmetricForward<float>&);
template bool symmetric_vector_forward(const Symmetric&, const SymmetricForward<double>&);
template bool symmetric_vector_backward(const Symmetric&, const SymmetricBackward<float>&);
template bool symmetric_vector_backward(const Symmetric&, const SymmetricBackward<double>&);

}  // namespace sslk
