// Which pairs of a 32 x 32 tile of scores are negatives, and which are positives.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "amx_tiles.h"
#include "problem.h"

namespace sslk::amx {

class TilePairs {
 public:
  explicit TilePairs(const Symmetric& problem)
      : problem_(problem), m_(problem.views.rows()), groups_((m_ + kGroup - 1) / kGroup) {}

  // Tiles that hold a self pair, a positive pair or the ragged end need masks.
  bool is_special(int64_t gi, int64_t gj) const {
    const int64_t distance = std::abs(gj - gi) * kGroup;
    if (gi == gj) return true;
    if (problem_.views.paired() && std::abs(distance - problem_.views.n) < kGroup) return true;
    return m_ % kGroup != 0 && std::max(gi, gj) == groups_ - 1;
  }
  // Bit b says whether column 32 gj + b is a negative of row i.
  uint32_t negatives(int64_t i, int64_t gj) const {
    if (i >= m_) return 0;
    const int64_t first = gj * kGroup;
    uint32_t mask = m_ - first >= kGroup ? ~0u : (1u << (m_ - first)) - 1;
    if (problem_.exclude_self) mask &= ~bit(i - first);
    return mask & ~bit(problem_.views.partner(i) - first);
  }
  // Calls take(i, partner, score) for the tile's positive pairs.
  template <class Take>
  void visit_positives(int64_t gi, int64_t gj, const float* scores, Take&& take) const {
    for (int64_t r = 0; r < kGroup && gi * kGroup + r < m_; ++r) {
      const int64_t i = gi * kGroup + r, partner = problem_.views.partner(i);
      const int64_t column = partner - gj * kGroup;
      if (bit(column)) take(i, partner, scores[r * kGroup + column]);
    }
  }

 private:
  static uint32_t bit(int64_t b) { return b >= 0 && b < kGroup ? 1u << b : 0u; }

  const Symmetric& problem_;
  const int64_t m_, groups_;
};

}  // namespace sslk::amx
