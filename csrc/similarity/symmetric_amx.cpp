// The symmetric similarity softmax on the AMX tile unit: every score is computed once in the
// forward and once in the backward, upper triangle only, and serves its row and its column.
#ifdef SSLK_ISA_AMX

#include "symmetric_amx.h"

#include <algorithm>
#include <vector>

#include "../parallel.h"
#include "../workspace.h"
#include "amx_gradient.h"
#include "amx_panels.h"
#include "amx_stripes.h"
#include "amx_stripes_backward.h"
#include "amx_stripes_forward.h"
#include "row_stat.h"

namespace sslk::amx {
namespace {

template <int Parts, int ValueParts>
class SymmetricKernel {
 public:
  explicit SymmetricKernel(const Symmetric& problem) : shared_(problem) {}

  bool forward(const SymmetricForward<float>& out) {
    Workspace workspace(shared_.panels.bytes(kForward) + sum_bytes());
    shared_.panels.place(workspace, kForward);
    place_sums(workspace);
    if (!pack<true>(out.inv_norm)) return false;
    sum_exponentials();
    parallel_ranges(shared_.m, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RowStat stat = row_stat(i);
        out.row_stat[i] = stat.negatives;
        out.row_stat[shared_.m + i] = stat.positive;
        out.rows[i] = float(stat.loss(shared_.problem));
      }
    });
    return true;
  }

  bool backward(const SymmetricBackward<float>& out) {
    Workspace workspace(shared_.panels.bytes(kBackward) + gradient_bytes());
    shared_.panels.place(workspace, kBackward);
    place_gradient(workspace);
    if (!pack<false>(const_cast<float*>(out.inv_norm))) return false;
    parallel_ranges(shared_.m, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        weigh(i, RowStat::read(shared_.problem, out, i), out.grad[i]);
      }
    });
    *out.dscale = gradient(workspace, out, out.inv_norm);
    return true;
  }

  bool forward_backward(const SymmetricForwardBackward<float>& out) {
    Workspace workspace(shared_.panels.bytes(kBackward) + sum_bytes() + gradient_bytes() +
                        Workspace::padded<float>(shared_.m));
    shared_.panels.place(workspace, kBackward);
    place_sums(workspace);
    place_gradient(workspace);
    float* inv_norm = workspace.take<float>(shared_.m);
    if (!pack<true>(inv_norm)) return false;
    sum_exponentials();
    parallel_ranges(shared_.m, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RowStat stat = row_stat(i);
        out.rows[i] = float(stat.loss(shared_.problem));
        weigh(i, stat, out.grad[i]);
      }
    });
    *out.dscale = gradient(workspace, out, inv_norm);
    return true;
  }

 private:
  using Gradient = StripesBackward<Parts, ValueParts>;
  static constexpr unsigned kForward = kA | kB, kBackward = kForward | kV | kT;

  // ---- memory ----

  size_t sum_bytes() const {
    return (2 + kCommitLanes) * Workspace::padded<float>(shared_.padded_rows());
  }
  void place_sums(Workspace& workspace) {
    static_assert(kCommitLanes == 2);
    for (float** sums :
         {&shared_.row_sum, &shared_.column_sum[0], &shared_.column_sum[1], &shared_.positive}) {
      *sums = workspace.take<float>(shared_.padded_rows());
      std::fill_n(*sums, shared_.padded_rows(), 0.0f);
    }
  }

  int64_t stripe_gradient() const { return shared_.stripe * shared_.gradient_group(); }
  int64_t stripe_weights() const {
    return shared_.stripe * shared_.stripe * 2 * ValueParts * kTileElements;
  }
  size_t gradient_bytes() const {
    return 2 * Workspace::padded<float>(shared_.padded_rows()) +
           Workspace::padded<float>(shared_.panels.groups) +
           kCommitLanes *
               Workspace::padded<float>(shared_.panels.groups * shared_.gradient_group()) +
           thread_count() * Scratch::bytes(stripe_weights(), stripe_gradient());
  }
  void place_gradient(Workspace& workspace) {
    shared_.row_factor = workspace.take<float>(shared_.padded_rows());
    shared_.slope = workspace.take<float>(shared_.padded_rows());
    shared_.dots = workspace.take<float>(shared_.panels.groups);
    for (float*& lane : shared_.dz_transposed)
      lane = workspace.take<float>(shared_.panels.groups * shared_.gradient_group());
  }

  // ---- steps ----

  // Fills the panels; false when scores may be too large for the shared exponential.
  template <bool Forward>
  bool pack(float* inv_norm) {
    const auto& panels = shared_.panels;
    const int64_t width = panels.depth * 32;
    LargestSquare largest(shared_.problem);
    if (!largest.in_range(shared_.c)) return false;
    parallel_ranges(panels.groups, [&](int64_t begin, int64_t end) {
      Workspace workspace(Workspace::padded<float>(kGroup * width));
      float* rows = workspace.take<float>(kGroup * width);
      for (int64_t g = begin; g < end; ++g) {
        largest.see(pack_views<Forward>(shared_.problem, panels, g, rows, inv_norm));
      }
    });
    return largest.in_range(shared_.c);
  }

  void sum_exponentials() {
    run_triangle(shared_.stripes,
                 [&](int64_t) { return StripesForward<Parts, ValueParts>(shared_); });
  }
  RowStat row_stat(int64_t i) const {
    return {shared_.row_sum[i] + shared_.column_sum[0][i] + shared_.column_sum[1][i],
            shared_.positive[i]};
  }

  // What the gradient needs of row i.
  void weigh(int64_t i, const RowStat& stat, float grad) {
    const double total = stat.sum(shared_.problem);
    shared_.row_factor[i] = float(grad / total);
    shared_.slope[i] = float(grad * stat.slope(shared_.problem, total));
  }

  // Fills out.dz1 and out.dz2; returns the gradient of the scale.
  template <class Out>
  float gradient(Workspace& workspace, const Out& out, const float* inv_norm) {
    std::fill(shared_.row_factor + shared_.m, shared_.row_factor + shared_.padded_rows(), 0.0f);
    std::vector<Scratch> scratch;
    for (int w = 0; w < thread_count(); ++w) {
      scratch.emplace_back(workspace, stripe_weights(), stripe_gradient());
    }
    const GradientRows rows{
        shared_.problem, 2 * shared_.panels.depth, inv_norm, shared_.slope, out.dz1, out.dz2,
        out.classes};
    run_triangle(shared_.stripes,
                 [&](int64_t w) { return Gradient(shared_, scratch[size_t(w)], rows); });
    double sum = 0;
    for (int64_t g = 0; g < shared_.panels.groups; ++g) sum += shared_.dots[g];
    return float(0.5 * sum);  // every score is counted from both its rows
  }

  Stripes<Parts, ValueParts> shared_;
};

// The weights of float32 do with two parts, 17 bits, where a row's gradient is a sum over many of
// them whose roundings average out: in a large batch, at a temperature that does not leave all of
// the softmax to a few. There the error was measured at 0.4 to 1.6 times that of the dense float32
// loss (docs/numerics.md).
bool weights_average_out(const Symmetric& problem) {
  return problem.views.rows() >= 2048 && problem.scale <= 20.0;
}

template <class Call>
bool with_kernel(const Symmetric& problem, Call&& call) {
  switch (parts(problem.views.dtype, problem.precision)) {
    case 1:
      return call(SymmetricKernel<1, 1>(problem));
    case 2:
      return call(SymmetricKernel<2, 2>(problem));
    default:
      if (weights_average_out(problem)) return call(SymmetricKernel<3, 2>(problem));
      return call(SymmetricKernel<3, 3>(problem));
  }
}

}  // namespace

bool symmetric_forward(const Symmetric& problem, const SymmetricForward<float>& out) {
  return with_kernel(problem, [&](auto&& kernel) { return kernel.forward(out); });
}

bool symmetric_backward(const Symmetric& problem, const SymmetricBackward<float>& out) {
  return with_kernel(problem, [&](auto&& kernel) { return kernel.backward(out); });
}

bool symmetric_forward_backward(const Symmetric& problem,
                                const SymmetricForwardBackward<float>& out) {
  if (fits_kept(problem)) return kept_forward_backward(problem, out);
  return with_kernel(problem, [&](auto&& kernel) { return kernel.forward_backward(out); });
}

}  // namespace sslk::amx

#endif  // SSLK_ISA_AMX
