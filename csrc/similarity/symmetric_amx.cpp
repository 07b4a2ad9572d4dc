// The symmetric similarity softmax on the AMX tile unit: every score is computed once in the
// forward and once in the backward, upper triangle only, and serves its row and its column.
//
// The matrix is cut into stripes of rows; a pair of stripes is the unit of work (parallel.h).
// Within a pair, 32 x 32 score tiles leave the tile unit for L1, and their exponentials are
// computed between the tile products of the next one: the two units then work at the same time.
#ifdef SSLK_ISA_AMX

#include "symmetric_amx.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "../parallel.h"
#include "../workspace.h"
#include "amx.h"
#include "amx_gradient.h"
#include "amx_pairs.h"
#include "amx_panels.h"
#include "amx_scores.h"
#include "amx_tiles.h"
#include "row_stat.h"

namespace sslk::amx {
namespace {

// Asks for the four accumulators of the products after these, two lines beside each product.
class NextAccumulators {
 public:
  // Two pairs of tiles, so many elements apart.
  void begin(const float* pair, int64_t other) {
    pair_ = pair;
    end_ = pair + 2 * kCTileElements;
    other_ = other;
  }
  SSLK_INLINE void step() {
    if (pair_ == end_) return;
    _mm_prefetch(pair_, _MM_HINT_T0);
    _mm_prefetch(pair_ + other_, _MM_HINT_T0);
    pair_ += 16;
  }

 private:
  const float *pair_ = nullptr, *end_ = nullptr;
  int64_t other_ = 0;
};

// Scores are made of Parts bfloat16 parts of Z, or digits in place of three; the weights W and the
// values Z that they multiply have ValueParts. The positive pair, which a trained encoder's
// gradient hangs on, stays out of W and is added in float32: what is left in W are many terms with
// independent roundings.
template <int Parts, int ValueParts>
class SymmetricKernel {
 public:
  explicit SymmetricKernel(const Symmetric& problem)
      : problem_(problem),
        m_(problem.views.rows()),
        c_(float(problem.scale * kLog2E)),
        pairs_(problem),
        panels_(m_, problem.views.d),
        stripe_(m_ <= 1024  ? 4
                : m_ < 4096 ? 8
                            : 12) {}

  bool forward(const SymmetricForward<float>& out) {
    Workspace workspace(panels_.bytes(kForward) + row_bytes());
    panels_.place(workspace, kForward);
    place_rows(workspace);
    if (!pack<true>(out.inv_norm)) return false;
    sum_exponentials();
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RowStat stat{row_sum_[i], positive_[i]};
        out.row_stat[i] = stat.negatives;
        out.row_stat[m_ + i] = stat.positive;
        out.rows[i] = float(stat.loss(problem_));
      }
    });
    return true;
  }

  bool backward(const SymmetricBackward<float>& out) {
    Workspace workspace(panels_.bytes(kBackward) + row_bytes() + gradient_bytes());
    panels_.place(workspace, kBackward);
    place_rows(workspace);
    place_gradient(workspace);
    if (!pack<false>(const_cast<float*>(out.inv_norm))) return false;
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) weigh(i, RowStat::read(problem_, out, i), out.grad[i]);
    });
    *out.dscale = gradient(out.inv_norm, out.dz1, out.dz2);
    return true;
  }

  bool forward_backward(const SymmetricForwardBackward<float>& out) {
    Workspace workspace(panels_.bytes(kBackward) + row_bytes() + gradient_bytes() +
                        Workspace::padded<float>(m_));
    panels_.place(workspace, kBackward);
    place_rows(workspace);
    place_gradient(workspace);
    float* inv_norm = workspace.take<float>(m_);
    if (!pack<true>(inv_norm)) return false;
    sum_exponentials();
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RowStat stat{row_sum_[i], positive_[i]};
        out.rows[i] = float(stat.loss(problem_));
        weigh(i, stat, out.grad[i]);
      }
    });
    *out.dscale = gradient(inv_norm, out.dz1, out.dz2);
    return true;
  }

 private:
  static constexpr unsigned kForward = kA | kB, kBackward = kForward | kV | kT;

  // ---- memory ----

  int64_t padded_rows() const { return panels_.groups * kGroup; }
  int64_t accumulator() const { return padded_rows() * panels_.depth * 32; }
  int64_t weights() const { return stripe_ * stripe_ * 2 * ValueParts * kTileElements; }

  size_t row_bytes() const { return 2 * Workspace::padded<float>(padded_rows()); }
  void place_rows(Workspace& workspace) {
    row_sum_ = row_factor_ = workspace.take<float>(padded_rows());
    positive_ = slope_ = workspace.take<float>(padded_rows());
    std::fill(row_sum_, row_sum_ + padded_rows(), 0.0f);
    std::fill(positive_, positive_ + padded_rows(), 0.0f);
  }

  size_t gradient_bytes() const {
    return Workspace::padded<float>(panels_.groups) + 2 * Workspace::padded<float>(accumulator()) +
           2 * thread_count() * Workspace::padded<bf16>(weights());
  }
  void place_gradient(Workspace& workspace) {
    dots_ = workspace.take<float>(panels_.groups);
    dz_ = workspace.take<float>(accumulator());
    dz_transposed_ = workspace.take<float>(accumulator());
    for (int w = 0; w < thread_count(); ++w) {
      weights_a_.push_back(workspace.take<bf16>(weights()));
      weights_b_.push_back(workspace.take<bf16>(weights()));
    }
  }

  // ---- steps ----

  // Fills the panels; false when scores may be too large for the shared exponential.
  template <bool Forward>
  bool pack(float* inv_norm) {
    const int64_t width = panels_.depth * 32;
    LargestSquare largest(problem_);
    if (!largest.in_range(c_)) return false;
    parallel_ranges(panels_.groups, [&](int64_t begin, int64_t end) {
      Workspace workspace(Workspace::padded<float>(kGroup * width));
      float* rows = workspace.take<float>(kGroup * width);
      for (int64_t g = begin; g < end; ++g) {
        largest.see(pack_views<Forward>(problem_, panels_, g, rows, inv_norm));
      }
    });
    return largest.in_range(c_);
  }

  void sum_exponentials() {
    tournament([&](int64_t, int64_t i, int64_t j) { forward_pair(i, j); });
  }

  // What the gradient needs of row i, in place of what the forward left there.
  void weigh(int64_t i, const RowStat& stat, float grad) {
    const double total = stat.sum(problem_);
    row_factor_[i] = float(grad / total);
    slope_[i] = float(grad * stat.slope(problem_, total));
  }

  // Fills dz1 and dz2; returns the gradient of the scale.
  float gradient(const float* inv_norm, void* dz1, void* dz2) {
    const int64_t group = accumulator() / panels_.groups;
    std::fill(row_factor_ + m_, row_factor_ + padded_rows(), 0.0f);
    parallel_ranges(panels_.groups, [&](int64_t begin, int64_t end) {
      std::fill(dz_ + begin * group, dz_ + end * group, 0.0f);
      std::fill(dz_transposed_ + begin * group, dz_transposed_ + end * group, 0.0f);
    });
    tournament([&](int64_t worker, int64_t i, int64_t j) {
      backward_pair(i, j, weights_a_[worker], weights_b_[worker]);
    });
    const GradientRows rows{problem_, 2 * panels_.depth, inv_norm, slope_, dz1, dz2};
    parallel_ranges(panels_.groups, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) {
        rows.add_transposed(dz_ + g * group, dz_transposed_ + g * group);
        dots_[g] = rows.finish(g, dz_ + g * group);
      }
    });
    double sum = 0;
    for (int64_t g = 0; g < panels_.groups; ++g) sum += dots_[g];
    return float(0.5 * sum);  // every score is counted from both its rows
  }

  // Plays all pairs of stripes, each worker with its tile registers configured.
  template <class Play>
  void tournament(Play&& play) {
    std::vector<std::unique_ptr<TileSession>> sessions(thread_count());
    const Tournament tournament((panels_.groups + stripe_ - 1) / stripe_);
    tournament.run([&](int64_t worker) { sessions[worker] = std::make_unique<TileSession>(); },
                   play, [&](int64_t worker) { sessions[worker].reset(); });
  }

  int64_t stripe_end(int64_t s) const { return std::min((s + 1) * stripe_, panels_.groups); }

  // ---- forward ----

  void forward_pair(int64_t stripe_i, int64_t stripe_j) {
    alignas(64) float scores[2][kGroup * kGroup];
    ScoreTiles<Parts, ValueParts> tiles(panels_);
    ExpSums<Parts, false> work(c_);
    ScoreTile at;  // of the work

    auto finish = [&](bool strip_ends) {
      if (at.gi < 0) return;
      while (work.pair < 16) work.step();
      if (at.gi != at.gj) {  // else its rows hold both triangles
        float* sums = row_sum_ + at.gj * kGroup;
        _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), work.column0));
        _mm512_storeu_ps(sums + 16, _mm512_add_ps(_mm512_loadu_ps(sums + 16), work.column1));
      }
      if (!strip_ends) return;
      for (int r = 0; r < kGroup; ++r) {
        row_sum_[at.gi * kGroup + r] += _mm512_reduce_add_ps(work.rows[r]);
      }
      work.clear_rows();
    };
    auto complete = [&](const ScoreTile& tile) {
      finish(at.gi != tile.gi);
      at = tile;
      if (pairs_.is_special(tile.gi, tile.gj)) {
        pairs_.visit_positives(
            tile.gi, tile.gj, tile.scores,
            [&](int64_t i, int64_t j, float score) { positive_[i] = positive_[j] = score; });
        work.masked(tile.scores,
                    [&](int r) { return pairs_.negatives(tile.gi * kGroup + r, tile.gj); });
      } else {
        work.begin(tile.scores);
      }
    };

    int current = 0;
    for (int64_t gi = stripe_i * stripe_; gi < stripe_end(stripe_i); ++gi) {
      const int64_t first_j = stripe_i == stripe_j ? gi : stripe_j * stripe_;
      for (int64_t gj = first_j; gj < stripe_end(stripe_j); ++gj) {
        tiles.push(
            {gi, gj, scores[current]}, panels_.rows_of(panels_.a, gi), [&] { work.step(); },
            complete);
        current ^= 1;
      }
    }
    tiles.finish(complete);
    finish(true);
  }

  // ---- backward ----

  void backward_pair(int64_t stripe_i, int64_t stripe_j, bf16* weights_a, bf16* weights_b) {
    alignas(64) float scores[2][kGroup * kGroup];
    const int64_t begin_i = stripe_i * stripe_, end_i = stripe_end(stripe_i);
    const int64_t begin_j = stripe_j * stripe_, end_j = stripe_end(stripe_j);
    const bool diagonal = stripe_i == stripe_j;  // only its tiles with gi <= gj are computed
    const int64_t step = ValueParts * kTileElements;
    const int64_t row_step = stripe_ * step;  // of 16 rows of W, in either form

    ScoreTiles<Parts, ValueParts> tiles(panels_);
    ScoreWeights<ValueParts> work(c_);
    auto complete = [&](const ScoreTile& tile) {
      while (work.pair < 16) work.step();
      const int64_t i = tile.gi - begin_i, j = tile.gj - begin_j;
      work.begin(tile.scores, row_factor_ + tile.gi * kGroup, row_factor_ + tile.gj * kGroup);
      work.to.a0 = weights_a + 2 * i * row_step + j * step;
      work.to.a1 = work.to.a0 + row_step;
      work.to.b0 = weights_b + 2 * j * row_step + i * step;
      work.to.b1 = work.to.b0 + row_step;
      if (pairs_.is_special(tile.gi, tile.gj)) {
        work.masked([&](int r) { return pairs_.negatives(tile.gi * kGroup + r, tile.gj); });
      }
    };
    int current = 0;
    for (int64_t gi = begin_i; gi < end_i; ++gi) {
      for (int64_t gj = diagonal ? gi : begin_j; gj < end_j; ++gj) {
        tiles.push(
            {gi, gj, scores[current]}, panels_.rows_of(panels_.a, gi), [&] { work.step(); },
            complete);
        current ^= 1;
      }
    }
    tiles.finish(complete);
    while (work.pair < 16) work.step();

    const int64_t tiles_d = 2 * panels_.depth;
    NextAccumulators next;
    const auto look_ahead = [&] { next.step(); };
    for (int64_t gi = begin_i; gi < end_i; ++gi) {
      const int64_t first = diagonal ? gi : begin_j;
      const bf16* w = weights_a + 2 * (gi - begin_i) * row_step + (first - begin_j) * step;
      for (int64_t d = 0; d < panels_.depth; ++d) {
        float* target = dz_ + (gi * 2 * tiles_d + 2 * d) * kCTileElements;
        load_accumulators(target, tiles_d * kCTileElements, kCTileElements, 64);
        next.begin(target + 2 * kCTileElements, tiles_d * kCTileElements);
        multiply<ValueParts>({w, w + row_step, step}, panels_.columns_of(panels_.v, first, d),
                             int(end_j - first), look_ahead);
        store_accumulators(target, tiles_d * kCTileElements, kCTileElements, 64);
      }
    }
    for (int64_t gj = begin_j; gj < end_j; ++gj) {
      const int64_t end = diagonal ? gj : end_i;  // the diagonal tile has served both sides
      if (end == begin_i) continue;
      const bf16* w = weights_b + 2 * (gj - begin_j) * row_step;
      for (int64_t d = 0; d < panels_.depth; ++d) {  // C rows are D, C columns are rows of dZ
        float* target = dz_transposed_ + (gj * 2 * tiles_d + 2 * d) * kCTileElements;
        load_accumulators(target, kCTileElements, tiles_d * kCTileElements, 64);
        next.begin(target + 2 * kCTileElements, tiles_d * kCTileElements);
        multiply<ValueParts>(panels_.columns_of(panels_.t, begin_i, d), {w, w + row_step, step},
                             int(end - begin_i), look_ahead);
        store_accumulators(target, kCTileElements, tiles_d * kCTileElements, 64);
      }
    }
  }

  const Symmetric& problem_;
  const int64_t m_;
  const float c_;  // exp(score) = 2^(c_ <z_i, z_j>)
  const TilePairs pairs_;
  Panels<Parts, ValueParts> panels_;
  const int64_t stripe_;                      // groups in a stripe
  float* row_sum_ = nullptr;                  // forward: sum over the negatives of exp(s_ij)
  float* row_factor_ = nullptr;               // backward, in the same place: g_i / l_i
  float* positive_ = nullptr;                 // forward: <z_i, z_partner>
  float* slope_ = nullptr;                    // backward, in the same place: g_i (p_i,partner - 1)
  float* dots_ = nullptr;                     // of each group: sum of <z_i, (W Z)_i>
  float* dz_ = nullptr;                       // W Z in C tiles [M / 16][D / 16]
  float* dz_transposed_ = nullptr;            // what columns add to it, each tile transposed
  std::vector<bf16*> weights_a_, weights_b_;  // of a pair of stripes; one a worker
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
