// The kernel of cross_pass.h on the vector units of any ISA, in float or double; the operands'
// class multiplies.
#pragma once

#include <algorithm>

#include "cross_pass.h"
#include "operand.h"

namespace sslk {

template <class T, class Matrix = Operand<T>>
struct VectorKernel {
  using Scalar = T;
  static constexpr int64_t kForwardColumns = 128, kBackwardColumns = 128;
  static constexpr int64_t kGroup = kGroupRows<T>;
  static constexpr int64_t kUnitRows = 64;
  // Up to so many features a panel of keys stays in the first-level cache and serves all its rows.
  static constexpr int64_t kNarrow = 256;
  static_assert(kGroup == kPanel<T> && kUnitRows % kGroup == 0);

  struct Session {};

  // Weights stay where the products were.
  struct Store {
    T* tile;
    int64_t stride;

    SSLK_INLINE void put(int c, const Vec<T> (&g)[2][2]) const {
      for (int k = 0; k < 2; ++k) {
        for (int h = 0; h < 2; ++h) store(tile + (c + k) * stride + h * kLanes<T>, g[k][h]);
      }
    }
  };

  class Rows {
   public:
    Rows(const Logits& problem, const KeptRows& kept, Purpose purpose)
        : p_(problem),
          kept_(kept),
          q_(kept.count(), problem.d, Sides::kRight, purpose == Purpose::kBothGradients),
          backward_(purpose != Purpose::kLogits) {}

    size_t bytes() const {
      return q_.bytes() +
             (backward_ ? Workspace::padded<T>(q_.padded_rows() * q_.width()) : size_t(0));
    }
    void place(Workspace& workspace) {
      q_.place(workspace);
      if (backward_) dq_ = workspace.take<T>(q_.padded_rows() * q_.width());
    }
    void pack(int64_t g) const {
      std::vector<T> rows(kGroup * q_.width());
      for (int64_t r = 0; r < std::min(kGroup, kept_.count() - g * kGroup); ++r) {
        load_row(p_.dtype, input(g * kGroup + r), p_.d, rows.data() + r * q_.width());
      }
      q_.pack(g * kGroup, kGroup, rows.data());
    }
    int64_t units(int64_t groups) const { return (groups * kGroup + kUnitRows - 1) / kUnitRows; }
    // Writes the gradient of a group's rows; returns the sum of their <q_i, (G K)_i>.
    double finish(int64_t g, const LogitGradients<T>& out) const {
      const T factor = T(out.row_factor(p_));
      double dots = 0;
      std::vector<T> q(q_.width());
      for (int64_t r = g * kGroup; r < std::min((g + 1) * kGroup, kept_.count()); ++r) {
        T* row = dq(r);
        load_row(p_.dtype, input(r), p_.d, q.data());
        Vec<T> dot{};
        for (int64_t k = 0; k < q_.width(); k += kLanes<T>) {
          const Vec<T> x = load(row + k);
          dot += load(&q[k]) * x;
          store(row + k, x * factor);
        }
        dots += sum(dot);
        char* target = static_cast<char*>(out.dq) + kept_.index[r] * p_.d * element_size(out.dtype);
        store_row(out.dtype, target, p_.d, row);
      }
      return dots;
    }

    const Matrix& operand() const { return q_; }
    T* dq(int64_t r) const { return dq_ + r * q_.width(); }

   private:
    const void* input(int64_t r) const {
      return static_cast<const char*>(p_.q) + kept_.index[r] * p_.d * element_size(p_.dtype);
    }

    const Logits& p_;
    const KeptRows& kept_;
    Matrix q_;
    bool backward_;
    T* dq_ = nullptr;
  };

  class Columns {
   public:
    Columns(const Logits& problem, Purpose purpose)
        : p_(&problem),
          k_(kBackwardColumns, problem.d, problem.d <= kNarrow ? Sides::kBoth : Sides::kLeft,
             purpose != Purpose::kLogits),
          stride_(purpose == Purpose::kLogits ? kGroup : std::min(kBandRows, pad_rows(problem.m))),
          backward_(purpose != Purpose::kLogits) {}

    size_t bytes() const {
      return k_.bytes() + Workspace::padded<T>(kRowPadding * k_.width()) +
             Workspace::padded<T>(kBackwardColumns * stride_) +
             (backward_ ? Workspace::padded<T>(kBackwardColumns * k_.width()) : size_t(0));
    }
    void place(Workspace& workspace) {
      k_.place(workspace);
      rows_ = workspace.take<T>(kRowPadding * k_.width());
      logits_ = workspace.take<T>(kBackwardColumns * stride_);
      if (backward_) dk_ = workspace.take<T>(kBackwardColumns * k_.width());
    }
    void load(int64_t first, int64_t count) {
      count_ = pad_rows(count);
      for (int64_t begin = 0; begin < count_; begin += kRowPadding) {
        for (int64_t r = 0; r < kRowPadding; ++r) {
          T* row = rows_ + r * k_.width();
          std::fill_n(row, k_.width(), T(0));
          if (begin + r >= count) continue;
          const int64_t at = (first + begin + r) * p_->d * element_size(p_->dtype);
          load_row(p_->dtype, static_cast<const char*>(p_->k) + at, p_->d, row);
        }
        k_.pack(begin, kRowPadding, rows_);
      }
    }

    template <class Sink, class Ready>
    void products(const Rows& rows, int64_t g, int64_t place, Sink& sink, Ready&& ready) const {
      T* tile = logits_ + place * kGroup;
      sink.drain();
      k_.scores(0, count_, rows.operand(), g * kGroup, kGroup, tile, stride_);
      for (int64_t b = 0; b < count_ / kBlockColumns; ++b) {
        ready(b, tile + b * kBlockColumns * stride_, stride_);
        sink.drain();
      }
    }
    Store store(int64_t, int64_t, T* tile, int64_t stride) const { return {tile, stride}; }

    void column_gradients(const Rows& rows, const Band& band, int64_t first, int64_t count,
                          const LogitGradients<T>& out) const {
      if (band.first) std::fill_n(dk_, count_ * k_.width(), T(0));
      if (band.groups() != 0) {
        rows.operand().accumulate({logits_, stride_, 1}, count_, band.begin * kGroup,
                                  band.groups() * kGroup, dk_);
      }
      if (band.last) write(first, count, out);
    }
    void row_gradients(const Rows& rows, const Band& band, int64_t unit, bool first) const {
      const int64_t begin = unit * kUnitRows;
      const int64_t count = std::min(kUnitRows, band.groups() * kGroup - begin);
      T* dq = rows.dq(band.begin * kGroup + begin);
      if (first) std::fill_n(dq, count * k_.width(), T(0));
      k_.accumulate({logits_ + begin, 1, stride_}, count, 0, count_, dq);
    }

   private:
    void write(int64_t first, int64_t count, const LogitGradients<T>& out) const {
      const T factor = T(out.column_factor(*p_));
      for (int64_t c = 0; c < count; ++c) {
        T* row = dk_ + c * k_.width();
        for (int64_t k = 0; k < p_->d; ++k) row[k] *= factor;
        const int64_t at = (first + c) * p_->d * element_size(out.dtype);
        store_row(out.dtype, static_cast<char*>(out.dk) + at, p_->d, row);
      }
    }

    const Logits* p_;
    Matrix k_;
    int64_t stride_;
    bool backward_;
    int64_t count_ = 0;  // columns of the chunk, padded to blocks
    T* rows_ = nullptr;  // on their way in
    T* logits_ = nullptr;
    T* dk_ = nullptr;
  };
};

}  // namespace sslk
