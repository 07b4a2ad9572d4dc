// The scores of a symmetric problem, tile after tile, while vector work on the tiles before runs
// between the tile products.
#pragma once

#include <algorithm>

#include "amx_digits.h"
#include "amx_panels.h"

namespace sslk::amx {

// 32 x 32 scores, rows 32 gi.. by rows 32 gj.. of Z.
struct ScoreTile {
  int64_t gi = -1, gj = -1;
  float* scores = nullptr;
};

template <int Parts, int ValueParts>
class ScoreTiles {
 public:
  explicit ScoreTiles(const Panels<Parts, ValueParts>& panels) : panels_(panels) {}

  // Computes the scores of a tile, whose rows are given in A form. step() runs between the tile
  // products; complete(tile) once a tile's scores are there, which with digits is that of the push
  // before.
  template <class Step, class Complete>
  SSLK_INLINE void push(const ScoreTile& tile, const Operand& rows, Step&& step,
                        Complete&& complete) {
    const Operand columns = panels_.rows_of(panels_.b, tile.gj);
    if constexpr (digit_scores(Parts)) {
      for (int64_t k = 0; k < panels_.score_depth; k += kDigitSteps) {
        const auto turn = [&] {
          combiner_.drain();
          if (k == 0) finish(complete);
        };
        multiply_digits(
            from(rows, k), from(columns, k), std::min(kDigitSteps, panels_.score_depth - k), sums_,
            [&] { combiner_.step(); }, turn, step);
        combiner_.begin(sums_, panels_.units + tile.gi * kGroup, panels_.units + tile.gj * kGroup,
                        tile.scores, k != 0);
      }
      pending_ = tile;
    } else {
      zero_accumulators();
      multiply<Parts>(rows, columns, int(panels_.score_depth), step);
      store_accumulators(tile.scores, 16 * kGroup, 16, kGroup * sizeof(float));
      complete(tile);
    }
  }
  // Completes the last tile.
  template <class Complete>
  void finish(Complete&& complete) {
    if (pending_.scores == nullptr) return;
    combiner_.drain();
    const ScoreTile tile = pending_;
    pending_ = {};
    complete(tile);
  }

 private:
  static Operand from(const Operand& operand, int64_t k) {
    return {operand.first + k * operand.step, operand.second + k * operand.step, operand.step};
  }

  const Panels<Parts, ValueParts>& panels_;
  DigitSums sums_;
  DigitCombiner combiner_;
  ScoreTile pending_;
};

}  // namespace sslk::amx
