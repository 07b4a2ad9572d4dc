// The backward of rows of pairs of stripes: their scores again, from these the weights, and two
// products with these. What is wanted next comes to the caches beside the products before.
#pragma once

#include <algorithm>

#include "../workspace.h"
#include "amx.h"
#include "amx_gradient.h"
#include "amx_scores.h"
#include "amx_slots.h"
#include "amx_stripes.h"
#include "amx_tiles.h"

namespace sslk::amx {

// Memory of a worker of the backward.
struct Scratch {
  static size_t bytes(int64_t weights, int64_t gradient) {
    return 2 * Workspace::padded<bf16>(weights) + Workspace::padded<float>(gradient);
  }
  Scratch(Workspace& workspace, int64_t weights, int64_t gradient)
      : weights_a(workspace.take<bf16>(weights)),
        weights_b(workspace.take<bf16>(weights)),
        dz(workspace.take<float>(gradient)) {}

  bf16 *weights_a, *weights_b;  // of a pair of stripes, in either form
  float* dz;                    // W Z of a stripe in C tiles [rows / 16][D / 16]
};

// The gradient of rows of pairs of stripes: of a pair (i, j) W Z_j for the rows of i, and
// Z_i^T W, transposed, for those of j.
template <int Parts, int ValueParts>
class StripesBackward {
 public:
  StripesBackward(const Stripes<Parts, ValueParts>& shared, const Scratch& scratch,
                  const GradientRows& rows)
      : shared_(shared),
        scratch_(scratch),
        rows_(rows),
        row_step_(shared.stripe * kStep),
        tiles_(shared.panels),
        work_(shared.c) {}

  void prepare(int64_t stripe_i, int64_t stripe_j) {
    ask_ahead(stripe_i, stripe_j);
    weigh(stripe_i, stripe_j);
    const auto& panels = shared_.panels;
    const int64_t begin_i = shared_.begin(stripe_i), begin_j = shared_.begin(stripe_j);
    for (int64_t gi = begin_i; gi < shared_.end(stripe_i); ++gi) {
      const int64_t first = std::max(gi, begin_j);
      const bf16* w =
          scratch_.weights_a + 2 * (gi - begin_i) * row_step_ + (first - begin_j) * kStep;
      for (int64_t d = 0; d < panels.depth; ++d) {
        accumulate({w, w + row_step_, kStep}, panels.columns_of(panels.v, first, d),
                   shared_.end(stripe_j) - first, stripe_i == stripe_j,
                   scratch_.dz + (gi - begin_i) * shared_.gradient_group() + 2 * d * kCTileElements,
                   row_tiles(), kCTileElements);
      }
    }
  }
  void commit(int64_t stripe_i, int64_t stripe_j) {
    const auto& panels = shared_.panels;
    float* lane = shared_.dz_transposed[stripe_i % kCommitLanes];
    const bool first = stripe_i < kCommitLanes;
    const int64_t begin_i = shared_.begin(stripe_i), begin_j = shared_.begin(stripe_j);
    for (int64_t gj = begin_j; gj < shared_.end(stripe_j); ++gj) {
      // The tile on the diagonal has served both sides.
      const int64_t groups = std::min(gj, shared_.end(stripe_i)) - begin_i;
      float* target = lane + gj * shared_.gradient_group();
      if (groups == 0) {
        if (first) std::fill_n(target, shared_.gradient_group(), 0.0f);
        continue;
      }
      const bf16* w = scratch_.weights_b + 2 * (gj - begin_j) * row_step_;
      for (int64_t d = 0; d < panels.depth; ++d) {  // C rows are D, C columns are rows of dZ
        accumulate(panels.columns_of(panels.t, begin_i, d), {w, w + row_step_, kStep}, groups,
                   first, target + 2 * d * kCTileElements, kCTileElements, row_tiles());
      }
    }
  }
  void close(int64_t stripe) {
    for (int64_t g = shared_.begin(stripe); g < shared_.end(stripe); ++g) {
      float* sum = scratch_.dz + g % shared_.stripe * shared_.gradient_group();
      for (int64_t lane = 0; lane <= std::min<int64_t>(stripe, kCommitLanes - 1); ++lane) {
        rows_.add_transposed(sum, shared_.dz_transposed[lane] + g * shared_.gradient_group());
      }
      shared_.dots[g] = rows_.finish(g, sum);
    }
  }

 private:
  static constexpr int64_t kStep = ValueParts * kTileElements;  // from tile to tile of W

  int64_t row_tiles() const { return 2 * shared_.panels.depth * kCTileElements; }

  // What this pair will want after its scores.
  void ask_ahead(int64_t stripe_i, int64_t stripe_j) {
    const auto& panels = shared_.panels;
    const int64_t begin = shared_.begin(stripe_j), groups = shared_.end(stripe_j) - begin;
    ahead_ = {};
    ahead_.add(panels.v + begin * panels.value_group(),
               groups * panels.value_group() * sizeof(bf16));
    ahead_.add(shared_.dz_transposed[stripe_i % kCommitLanes] + begin * shared_.gradient_group(),
               groups * shared_.gradient_group() * sizeof(float));
  }

  // The weights of a pair, in both forms; of its upper triangle alone where it is on the diagonal.
  void weigh(int64_t stripe_i, int64_t stripe_j) {
    const int64_t begin_i = shared_.begin(stripe_i), begin_j = shared_.begin(stripe_j);
    const auto step = [&] {
      work_.step();
      ahead_.step();
    };
    const auto complete = [&](const ScoreTile& tile) {
      while (work_.pair < 16) work_.step();
      const int64_t i = tile.gi - begin_i, j = tile.gj - begin_j;
      work_.begin(tile.scores, shared_.row_factor + tile.gi * kGroup,
                  shared_.row_factor + tile.gj * kGroup);
      work_.to.a0 = scratch_.weights_a + 2 * i * row_step_ + j * kStep;
      work_.to.a1 = work_.to.a0 + row_step_;
      work_.to.b0 = scratch_.weights_b + 2 * j * row_step_ + i * kStep;
      work_.to.b1 = work_.to.b0 + row_step_;
      const TilePairs& pairs = shared_.pairs;
      if (pairs.is_special(tile.gi, tile.gj)) {
        work_.masked([&](int r) { return pairs.negatives(tile.gi * kGroup + r, tile.gj); });
      }
    };
    const auto& panels = shared_.panels;
    int current = 0;
    for (int64_t gi = begin_i; gi < shared_.end(stripe_i); ++gi) {
      for (int64_t gj = std::max(gi, begin_j); gj < shared_.end(stripe_j); ++gj) {
        tiles_.push({gi, gj, scores_[current]}, panels.rows_of(panels.a, gi), step, complete);
        current ^= 1;
      }
    }
    tiles_.finish(complete);
    while (work_.pair < 16) work_.step();
  }

  // C (+)= A B over so many groups. first: there is no sum yet.
  void accumulate(const Operand& a, const Operand& b, int64_t groups, bool first, float* c,
                  int64_t row_step, int64_t column_step) {
    if (first) {
      zero_accumulators();
    } else {
      load_accumulators(c, row_step, column_step, 64);
    }
    next_.begin(c + 2 * kCTileElements, std::max(row_step, column_step));
    multiply<ValueParts>(a, b, int(groups), [&] { next_.step(); });
    store_accumulators(c, row_step, column_step, 64);
  }

  const Stripes<Parts, ValueParts>& shared_;
  const Scratch& scratch_;
  const GradientRows& rows_;
  const int64_t row_step_;  // from 16 rows of W to the next
  const TileSession session_;
  ScoreTiles<Parts, ValueParts> tiles_;
  ScoreWeights<ValueParts> work_;
  ReadAhead ahead_;
  NextAccumulators next_;
  alignas(64) float scores_[2][kGroup * kGroup];
};

}  // namespace sslk::amx
