#include "logsumexp.h"

#include <optional>
#include <vector>

#include "../parallel.h"
#include "../rows.h"
#include "../workspace.h"
#include "symmetric.h"

namespace sslk {
namespace {

// Without bias, and with nothing or the row itself excluded, K = Q makes S symmetric.
std::optional<Symmetric> as_symmetric(const Logits& p) {
  if (p.m == 0) return {};
  const bool excludes_self = p.excluded == 1 && p.exclude[0] == 0;
  if (p.k != nullptr || p.bias != nullptr || (p.excluded != 0 && !excludes_self)) return {};
  return Symmetric{
      {p.q, nullptr, p.dtype, p.m, p.d}, p.scale, false, excludes_self, false, p.precision};
}

Logits with_columns(Logits problem) {
  if (problem.k == nullptr) problem.k = problem.q;
  return problem;
}

template <class T>
constexpr Dtype kDtypeOf = sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32;

// Both sides of the gradient of Q, summed before they are rounded.
template <class Acc>
void backward_of_both_sides(const Logits& problem, const Acc* grad, const Acc* lse,
                            const LogitGradients<Acc>& out) {
  const int64_t count = problem.m * problem.d;
  Workspace workspace(2 * Workspace::padded<Acc>(count));
  Acc* dq = workspace.take<Acc>(count);
  Acc* dk = workspace.take<Acc>(count);
  cross_backward<Acc>(with_columns(problem), lse, {grad},
                      {dq, dk, kDtypeOf<Acc>, out.dscale, out.dbias});
  parallel_ranges(problem.m, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Acc* row = dq + i * problem.d;
      for (int64_t k = 0; k < problem.d; ++k) row[k] += dk[i * problem.d + k];
      char* target = static_cast<char*>(out.dq) + i * problem.d * element_size(out.dtype);
      store_row(out.dtype, target, problem.d, row);
    }
  });
}

}  // namespace

template <class Acc>
void logsumexp_forward(const Logits& problem, Acc* lse) {
  if (const auto symmetric = as_symmetric(problem)) {
    std::vector<Acc> row_stat(2 * problem.m);
    return symmetric_forward<Acc>(*symmetric, {lse, row_stat.data(), nullptr});
  }
  cross_forward<Acc>(with_columns(problem), {lse});
}

template <class Acc>
void logsumexp_backward(const Logits& problem, const Acc* grad, const Acc* lse,
                        const LogitGradients<Acc>& out) {
  if (const auto symmetric = as_symmetric(problem)) {
    return symmetric_backward<Acc>(
        *symmetric, {{grad, 1, Acc(1)}, nullptr, lse, nullptr, out.dq, nullptr, out.dscale});
  }
  if (problem.k == nullptr) return backward_of_both_sides(problem, grad, lse, out);
  cross_backward<Acc>(problem, lse, {grad}, out);
}

template <class Acc>
void weighted_logsumexp(const Logits& problem, const Acc* weight, Acc* lse,
                        const LogitGradients<Acc>& out) {
  if (const auto symmetric = as_symmetric(problem)) {
    return symmetric_forward_backward<Acc>(*symmetric,
                                           {{weight, 1, Acc(1)}, lse, out.dq, nullptr, out.dscale});
  }
  logsumexp_forward(problem, lse);
  logsumexp_backward(problem, weight, lse, out);
}

#define SSLK_INSTANTIATE(T)                                                                      \
  template void logsumexp_forward(const Logits&, T*);                                            \
  template void logsumexp_backward(const Logits&, const T*, const T*, const LogitGradients<T>&); \
  template void weighted_logsumexp(const Logits&, const T*, T*, const LogitGradients<T>&);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
