#include "logsumexp.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "../parallel.h"
#include "../rows.h"
#include "cross.h"
#include "symmetric.h"

namespace sslk {
namespace {

// Without bias, and with nothing or the row itself excluded, K = Q makes S symmetric.
std::optional<Symmetric> as_symmetric(const LogSumExp& p) {
  if (p.m == 0) return {};
  const bool excludes_self = p.excluded == 1 && p.exclude[0] == 0;
  if (p.k != nullptr || p.bias != nullptr || (p.excluded != 0 && !excludes_self)) return {};
  return Symmetric{
      {p.q, nullptr, p.dtype, p.m, p.d}, p.scale, false, excludes_self, false, p.precision};
}

template <class T>
void pack(const Operand<T>& operand, Dtype dtype, const void* matrix, int64_t rows, int64_t d) {
  parallel_ranges(operand.padded_rows() / kRowPadding, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * kRowPadding; i < end * kRowPadding; ++i) {
      std::fill(operand.row(i), operand.row(i) + operand.width(), T(0));
      const char* row = static_cast<const char*>(matrix) + i * d * element_size(dtype);
      if (i < rows) load_row(dtype, row, d, operand.row(i));
    }
    operand.pack(begin * kRowPadding, end * kRowPadding);
  });
}

// Q and K packed, and the accumulators of their gradients.
template <class T>
class Session {
 public:
  Session(const LogSumExp& p, bool gradients)
      : p_(p),
        q_(p.m, p.d),
        k_(p.n, p.d),
        workspace_(q_.bytes() + k_.bytes() + (gradients ? gradient_bytes() : 0)) {
    q_.place(workspace_);
    pack(q_, p.dtype, p.q, p.m, p.d);
    if (p.k != nullptr) {
      k_.place(workspace_);
      pack(k_, p.dtype, p.k, p.n, p.d);
    }
    if (!gradients) return;
    dq_ = workspace_.take<T>(q_.padded_rows() * q_.width());
    dk_ = workspace_.take<T>(k_.padded_rows() * k_.width());
    std::fill(dq_, dq_ + q_.padded_rows() * q_.width(), T(0));
    std::fill(dk_, dk_ + k_.padded_rows() * k_.width(), T(0));
  }

  Cross<T> cross() const {
    return {&q_,         p_.k != nullptr ? &k_ : &q_,    p_.m,       p_.n,
            T(p_.scale), static_cast<const T*>(p_.bias), p_.exclude, p_.excluded};
  }
  CrossGradients<T> sums(T* dbias) const { return {dq_, dk_, dbias}; }

  void finish(const LogSumExpGradients<T>& out) const {
    // d/dscale: sum over the pairs of W_ij <q_i, k_j>.
    T dscale = 0;
    for (int64_t e = 0; e < p_.m * q_.width(); ++e) dscale += q_.row(0)[e] * dq_[e];
    *out.dscale = dscale;
    if (p_.k == nullptr) {
      for (int64_t e = 0; e < p_.m * q_.width(); ++e) dq_[e] += dk_[e];
    } else {
      write(dk_, p_.n, out.dk);
    }
    write(dq_, p_.m, out.dq);
  }

 private:
  size_t gradient_bytes() const {
    return Workspace::padded<T>(q_.padded_rows() * q_.width()) +
           Workspace::padded<T>(k_.padded_rows() * k_.width());
  }
  void write(T* sums, int64_t rows, void* target) const {
    for (int64_t i = 0; i < rows; ++i) {
      T* row = sums + i * q_.width();
      for (int64_t k = 0; k < p_.d; ++k) row[k] *= T(p_.scale);
      store_row(p_.dtype, static_cast<char*>(target) + i * p_.d * element_size(p_.dtype), p_.d,
                row);
    }
  }

  const LogSumExp& p_;
  Operand<T> q_, k_;
  Workspace workspace_;
  T *dq_ = nullptr, *dk_ = nullptr;
};

template <class T>
void clear(const LogSumExp& problem, const LogSumExpGradients<T>& out) {
  if (out.dbias != nullptr) std::fill(out.dbias, out.dbias + problem.n, T(0));
}

}  // namespace

template <class T>
void logsumexp_forward(const LogSumExp& problem, T* lse) {
  if (const auto symmetric = as_symmetric(problem)) {
    std::vector<T> row_stat(2 * problem.m);
    return symmetric_forward<T>(*symmetric, {lse, row_stat.data(), nullptr});
  }
  cross_forward(Session<T>(problem, false).cross(), lse);
}

template <class T>
void logsumexp_backward(const LogSumExp& problem, const T* grad, const T* lse,
                        const LogSumExpGradients<T>& out) {
  if (const auto symmetric = as_symmetric(problem)) {
    return symmetric_backward<T>(
        *symmetric, {{grad, 1, T(1)}, nullptr, lse, nullptr, out.dq, nullptr, out.dscale});
  }
  const Session<T> session(problem, true);
  clear(problem, out);
  cross_backward(session.cross(), lse, grad, {0, nullptr}, session.sums(out.dbias));
  session.finish(out);
}

template <class T>
void weighted_logsumexp(const LogSumExp& problem, const T* weight, T* lse,
                        const LogSumExpGradients<T>& out) {
  if (const auto symmetric = as_symmetric(problem)) {
    return symmetric_forward_backward<T>(*symmetric,
                                         {{weight, 1, T(1)}, lse, out.dq, nullptr, out.dscale});
  }
  const Session<T> session(problem, true);
  clear(problem, out);
  cross_forward_backward(session.cross(), weight, lse, session.sums(out.dbias));
  session.finish(out);
}

#define SSLK_INSTANTIATE(T)                                              \
  template void logsumexp_forward(const LogSumExp&, T*);                 \
  template void logsumexp_backward(const LogSumExp&, const T*, const T*, \
                                   const LogSumExpGradients<T>&);        \
  template void weighted_logsumexp(const LogSumExp&, const T*, T*, const LogSumExpGradients<T>&);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
