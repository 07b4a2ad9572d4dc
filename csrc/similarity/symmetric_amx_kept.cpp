// Forward and backward of a small symmetric similarity softmax in one go, on the AMX tile unit.
//
// At this size moving a cache line between cores costs more than what could be computed meanwhile.
// So workers share nothing but a few numbers a row: each packs all rows for itself, has strips of
// 32 rows of its own, computes their scores against all rows, both triangles, and keeps the
// exponentials in its caches. Between the two passes there is one wait, for the other rows' sums.
#ifdef SSLK_ISA_AMX

#include <algorithm>
#include <atomic>
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
#include "symmetric_amx.h"

namespace sslk::amx {
namespace {

constexpr int64_t kTileFloats = kGroup * kGroup;

// What all workers see.
struct Shared {
  const Symmetric& problem;
  const SymmetricForwardBackward<float>& out;
  int64_t m, groups, width;  // width: D, padded to 32
  TilePairs pairs;
  float* exponentials = nullptr;  // [groups][groups] tiles; a strip is its worker's alone
  float* row_factor = nullptr;    // g_i / l_i
  float* slope = nullptr;         // g_i (p_i,partner - 1)
  float* dots = nullptr;          // of each group: sum of <z_i, (W Z)_i>

  Shared(const Symmetric& problem, const SymmetricForwardBackward<float>& out)
      : problem(problem),
        out(out),
        m(problem.views.rows()),
        groups((m + kGroup - 1) / kGroup),
        width((problem.views.d + 31) / 32 * 32),
        pairs(problem) {}
  size_t bytes() const {
    return Workspace::padded<float>(groups * groups * kTileFloats) +
           3 * Workspace::padded<float>(groups * kGroup);
  }
  void place(Workspace& workspace) {
    exponentials = workspace.take<float>(groups * groups * kTileFloats);
    row_factor = workspace.take<float>(groups * kGroup);
    slope = workspace.take<float>(groups * kGroup);
    dots = workspace.take<float>(groups * kGroup);
  }
  float* tile(int64_t gi, int64_t gj) const {
    return exponentials + (gi * groups + gj) * kTileFloats;
  }
};

template <int Parts>
class Worker {
 public:
  explicit Worker(const Shared& shared)
      : shared_(shared),
        c_(float(shared.problem.scale * kLog2E)),
        panels_(shared.m, shared.problem.views.d) {}

  size_t bytes() const {
    return panels_.bytes(kB | kV) + Workspace::padded<bf16>(panels_.group()) +
           2 * Workspace::padded<bf16>(strip_weights()) +
           Workspace::padded<float>(kGroup * shared_.width) +
           Workspace::padded<float>(shared_.groups * kGroup);
  }
  void place(Workspace& workspace) {
    panels_.place(workspace, kB | kV);
    strip_ = workspace.take<bf16>(panels_.group());
    for (auto& weights : weights_) weights = workspace.take<bf16>(strip_weights());
    rows_ = workspace.take<float>(kGroup * shared_.width);
    inv_norm_ = workspace.take<float>(shared_.groups * kGroup);
  }

  // Packs all rows; false when scores may be too large for the shared exponential.
  bool pack() {
    LargestSquare largest(shared_.problem);
    for (int64_t g = 0; g < shared_.groups; ++g) {
      largest.see(pack_views<true>(shared_.problem, panels_, g, rows_, inv_norm_));
    }
    return largest.in_range(c_);
  }

  // Exponentials of rows 32 g.., zero where a pair is no negative; losses and gradient factors.
  void forward(int64_t g) {
    own_.push_back(g);
    for (int64_t at = 0; at < panels_.group(); at += kTileElements) {
      transpose(panels_.b + g * panels_.group() + at, strip_ + at);
    }
    float positive[kGroup] = {};
    ScoreTiles<Parts, Parts> tiles(panels_);
    ExpSums<Parts, true> work(c_);
    auto complete = [&](const ScoreTile& tile) {
      while (work.pair < 16) work.step();
      if (shared_.pairs.is_special(g, tile.gj)) {
        shared_.pairs.visit_positives(
            g, tile.gj, tile.scores,
            [&](int64_t i, int64_t, float score) { positive[i - g * kGroup] = score; });
        work.masked(tile.scores,
                    [&](int r) { return shared_.pairs.negatives(g * kGroup + r, tile.gj); });
      } else {
        work.begin(tile.scores);
      }
    };
    for (int64_t j = 0; j < shared_.groups; ++j) {
      tiles.push(
          {g, j, shared_.tile(g, j)}, panels_.rows_of(strip_, 0), [&] { work.step(); }, complete);
    }
    tiles.finish(complete);
    while (work.pair < 16) work.step();
    for (int r = 0; r < kGroup; ++r) {
      weigh(g * kGroup + r, {_mm512_reduce_add_ps(work.rows[r]), positive[r]});
    }
  }

  // dZ of the strips that forward() has seen. The weights of the next one are made between the tile
  // products of this one.
  void backward() {
    constexpr int64_t step = Parts * kTileElements;  // from tile to tile of W
    const int64_t row_step = shared_.groups * step;  // from 16 rows of W to the next
    const int64_t tiles_d = shared_.width / 16;
    const GradientRows gradient{shared_.problem, tiles_d,         inv_norm_,          shared_.slope,
                                shared_.out.dz1, shared_.out.dz2, shared_.out.classes};
    KeptWeights<Parts> work;
    size_t strip = 0;  // whose weights are being made
    int64_t tile = 0;  // of them, the next
    const auto make_weights = [&] {
      if (work.pair == 16) {
        if (strip == own_.size() || tile == shared_.groups) return;
        const int64_t g = own_[strip], j = tile++;
        work.begin(shared_.tile(g, j), shared_.row_factor + g * kGroup,
                   shared_.row_factor + j * kGroup);
        work.to.a0 = weights_[strip % 2] + j * step;
        work.to.a1 = work.to.a0 + row_step;
      }
      work.step();
    };
    const auto finish_weights = [&] {
      while (strip < own_.size() && (tile < shared_.groups || work.pair < 16)) make_weights();
      ++strip;
      tile = 0;
    };
    finish_weights();
    for (size_t s = 0; s < own_.size(); ++s) {
      const bf16* weights = weights_[s % 2];
      for (int64_t d = 0; d < panels_.depth; ++d) {
        zero_accumulators();
        multiply<Parts>({weights, weights + row_step, step}, panels_.columns_of(panels_.v, 0, d),
                        int(shared_.groups), make_weights);
        store_accumulators(rows_ + 2 * d * kCTileElements, tiles_d * kCTileElements, kCTileElements,
                           64);
      }
      finish_weights();
      shared_.dots[own_[s]] = gradient.finish(own_[s], rows_);
    }
  }

 private:
  int64_t strip_weights() const { return shared_.groups * 2 * Parts * kTileElements; }

  void weigh(int64_t i, const RowStat& stat) const {
    if (i >= shared_.m) {
      shared_.row_factor[i] = 0.0f;
      return;
    }
    const double total = stat.sum(shared_.problem);
    const float grad = shared_.out.grad[i];
    shared_.out.rows[i] = float(stat.loss(shared_.problem));
    shared_.row_factor[i] = float(grad / total);
    shared_.slope[i] = float(grad * stat.slope(shared_.problem, total));
  }

  const Shared& shared_;
  const float c_;  // exp(score) = 2^(c_ <z_i, z_j>)
  Panels<Parts, Parts> panels_;
  bf16* strip_ = nullptr;  // A form of the strip at work
  bf16* weights_[2] = {};  // of a strip, in A form
  float* rows_ = nullptr;  // 32 rows on their way in or out
  float* inv_norm_ = nullptr;
  std::vector<int64_t> own_;  // strips
};

template <int Parts>
bool run(const Symmetric& problem, const SymmetricForwardBackward<float>& out) {
  Shared shared(problem, out);
  // Less than two strips each is not worth waking a thread for.
  const int64_t count = std::min<int64_t>(thread_count(), (shared.groups + 1) / 2);
  std::vector<Worker<Parts>> workers(count, Worker<Parts>(shared));
  Workspace workspace(shared.bytes() + count * workers[0].bytes());
  shared.place(workspace);
  for (auto& worker : workers) worker.place(workspace);

  Claims strips(shared.groups);
  std::atomic<bool> in_range{true};
  parallel_run(count, [&](int64_t w) {
    if (!strips.any_left()) return;
    if (!workers[w].pack()) in_range = false;
    if (!in_range) return;
    const TileSession session;
    strips.take(w, count, [&](int64_t g) { workers[w].forward(g); });
    strips.await_all();
    workers[w].backward();
  });
  if (!in_range) return false;
  double sum = 0;
  for (int64_t g = 0; g < shared.groups; ++g) sum += shared.dots[g];
  *out.dscale = float(0.5 * sum);  // every score is counted from both its rows
  return true;
}

}  // namespace

bool fits_kept(const Symmetric& problem) {
  // 4 MiB of exponentials; panels that fit a second-level cache, since every worker has its own.
  const int64_t m = problem.views.rows(),
                panel = 2 * m * problem.views.d * parts(problem.views.dtype, problem.precision);
  return m <= 1024 && 2 * panel <= int64_t(2) << 20;
}

bool kept_forward_backward(const Symmetric& problem, const SymmetricForwardBackward<float>& out) {
  switch (parts(problem.views.dtype, problem.precision)) {
    case 1:
      return run<1>(problem, out);
    case 2:
      return run<2>(problem, out);
    default:
      return run<3>(problem, out);
  }
}

}  // namespace sslk::amx

#endif  // SSLK_ISA_AMX
