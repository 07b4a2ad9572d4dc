// The forward of rows of pairs of stripes. 32 x 32 score tiles leave the tile unit for L1, and
// their exponentials are computed between the tile products of the next one.
#pragma once

#include <algorithm>

#include "amx.h"
#include "amx_scores.h"
#include "amx_slots.h"
#include "amx_stripes.h"
#include "amx_tiles.h"

namespace sslk::amx {

// Sums the exponentials of rows of pairs of stripes.
template <int Parts, int ValueParts>
class StripesForward {
 public:
  explicit StripesForward(const Stripes<Parts, ValueParts>& shared)
      : shared_(shared), tiles_(shared.panels), work_(shared.c) {}

  void prepare(int64_t stripe_i, int64_t stripe_j) {
    std::fill_n(columns_, kMostGroups * kGroup, 0.0f);
    const auto& panels = shared_.panels;
    ReadAhead ahead;
    if (stripe_j + 1 < shared_.stripes) {
      const int64_t next = shared_.begin(stripe_j + 1);
      const int64_t groups = shared_.end(stripe_j + 1) - next;
      ahead.add(panels.b + next * panels.group(), groups * panels.group() * sizeof(bf16));
    }
    const auto step = [&] {
      work_.step();
      ahead.step();
    };
    const auto complete = [&](const ScoreTile& tile) { take(tile); };
    int current = 0;
    for (int64_t gi = shared_.begin(stripe_i); gi < shared_.end(stripe_i); ++gi) {
      for (int64_t gj = std::max(gi, shared_.begin(stripe_j)); gj < shared_.end(stripe_j); ++gj) {
        tiles_.push({gi, gj, scores_[current]}, panels.rows_of(panels.a, gi), step, complete);
        current ^= 1;
      }
    }
    tiles_.finish(complete);
    finish(true);
    at_ = {};
  }
  void commit(int64_t stripe_i, int64_t stripe_j) {
    float* sums = shared_.column_sum[stripe_i % kCommitLanes];
    const int64_t first = shared_.begin(stripe_j) * kGroup, end = shared_.end(stripe_j) * kGroup;
    for (int64_t j = first; j < end; ++j) sums[j] += columns_[j - first];
  }
  void close(int64_t) {}

 private:
  void take(const ScoreTile& tile) {
    finish(at_.gi != tile.gi);
    at_ = tile;
    const TilePairs& pairs = shared_.pairs;
    if (!pairs.is_special(tile.gi, tile.gj)) return work_.begin(tile.scores);
    pairs.visit_positives(tile.gi, tile.gj, tile.scores, [&](int64_t i, int64_t j, float score) {
      shared_.positive[i] = shared_.positive[j] = score;
    });
    work_.masked(tile.scores,
                 [&](int r) { return pairs.negatives(tile.gi * kGroup + r, tile.gj); });
  }
  // The tile at work, and with it the strip of tiles to its left.
  void finish(bool strip_ends) {
    if (at_.gi < 0) return;
    while (work_.pair < 16) work_.step();
    if (at_.gi != at_.gj) {  // else its rows hold both triangles
      float* sums = columns_ + at_.gj % shared_.stripe * kGroup;
      _mm512_store_ps(sums, _mm512_add_ps(_mm512_load_ps(sums), work_.column0));
      _mm512_store_ps(sums + 16, _mm512_add_ps(_mm512_load_ps(sums + 16), work_.column1));
    }
    if (!strip_ends) return;
    for (int r = 0; r < kGroup; ++r) {
      shared_.row_sum[at_.gi * kGroup + r] += _mm512_reduce_add_ps(work_.rows[r]);
    }
    work_.clear_rows();
  }

  const Stripes<Parts, ValueParts>& shared_;
  const TileSession session_;
  ScoreTiles<Parts, ValueParts> tiles_;
  ExpSums<Parts, false> work_;
  ScoreTile at_;  // of the work
  alignas(64) float scores_[2][kGroup * kGroup];
  alignas(64) float columns_[kMostGroups * kGroup];  // sums of a pair's columns
};

}  // namespace sslk::amx
