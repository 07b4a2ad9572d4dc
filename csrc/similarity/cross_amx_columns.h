// The columns of the AMX kernel of cross_pass.h, a chunk at a time: products with its rows, and dK.
#pragma once

#ifdef SSLK_ISA_AMX

#include <algorithm>
#include <cstring>

#include "../workspace.h"
#include "amx.h"
#include "amx_digits.h"
#include "amx_rows.h"
#include "amx_slots.h"
#include "amx_tiles.h"
#include "cross_amx_rows.h"
#include "cross_amx_tiles.h"
#include "cross_pass.h"

namespace sslk::amx {

// Where the weights of one block go, as A operand of W^T Q and as B operand of K^T W.
template <int Parts>
struct CrossStore {
  WeightTiles<Parts> tiles;

  SSLK_INLINE void put(int c, Vec<float> (&g)[2][2]) const {
    __m512 w[2][2];
    std::memcpy(w, g, sizeof(w));
    tiles.template put<true>(c / 2, w);
  }
};

template <int Parts>
class CrossColumns {
 public:
  // The operands of a chunk, and in the backward its weights, share the second-level cache with
  // the rows that stream past.
  static constexpr int64_t kBackwardColumns = Parts == 1 ? 256 : 128;
  static constexpr int64_t kForwardColumns = Parts == 2 ? 256 : 512;

  CrossColumns(const Logits& problem, Purpose purpose)
      : p_(&problem),
        depth_((problem.d + 31) / 32),
        logit_depth_(logit_depth<Parts>(problem.d)),
        columns_(purpose == Purpose::kLogits ? kForwardColumns : kBackwardColumns),
        groups_(std::min(kBandRows / kGroup, (problem.m + kGroup - 1) / kGroup)),
        purpose_(purpose) {}

  size_t bytes() const {
    const size_t forward = Workspace::padded<bf16>(logit_operand()) +
                           Workspace::padded<float>(columns_) +
                           Workspace::padded<float>(columns_ * kGroup);
    if (purpose_ == Purpose::kLogits) return forward;
    return forward + Workspace::padded<bf16>(values()) + Workspace::padded<bf16>(column_weights()) +
           Workspace::padded<bf16>(weights()) + Workspace::padded<float>(column_sums());
  }
  void place(Workspace& workspace) {
    a_ = workspace.take<bf16>(logit_operand());
    units_ = workspace.take<float>(columns_);
    logits_ = workspace.take<float>(columns_ * kGroup);
    if (purpose_ == Purpose::kLogits) return;
    t_ = workspace.take<bf16>(values());
    weights_a_ = workspace.take<bf16>(column_weights());
    weights_b_ = workspace.take<bf16>(weights());
    dk_ = workspace.take<float>(column_sums());
  }
  void load(int64_t first, int64_t count) {
    blocks_ = (count + 31) / 32;
    const int64_t ahead = 32 * p_->d * element_size(p_->dtype);  // the next block
    alignas(64) bf16 part[Parts][2 * kTileElements], turned[kTileElements];
    for (int64_t b = 0; b < blocks_; ++b) {
      const void* rows[32];
      for (int64_t r = 0; r < 32; ++r) {
        const int64_t at = (first + b * 32 + r) * p_->d * element_size(p_->dtype);
        rows[r] = b * 32 + r < count ? static_cast<const char*>(p_->k) + at : nullptr;
      }
      if constexpr (digit_scores(Parts)) {
        load_digits(rows, b, ahead);
        if (purpose_ == Purpose::kLogits) continue;
      }
      for (int64_t k = 0; k < depth_; ++k) {
        split_block<Parts>(p_->dtype, rows, k * 32, p_->d, digit_scores(Parts) ? 0 : ahead, part);
        for (int s = 0; s < Parts; ++s) {
          for (int half = 0; half < 2; ++half) {
            if constexpr (!digit_scores(Parts)) {
              std::memcpy(logit_tile(b, half, k, s), part[s] + half * kTileElements,
                          2 * kTileElements);
            }
            if (purpose_ == Purpose::kLogits) continue;
            interleave_rows(part[s], half, turned);
            transpose(turned, t_ + ((2 * k + half) * kChunkBlocks + b) * kCrossTile<Parts> +
                                  s * kTileElements);
          }
        }
      }
    }
  }

  template <class Sink, class Ready>
  void products(const CrossRows<Parts>& rows, int64_t g, int64_t, Sink& sink, Ready&& ready) const {
    if constexpr (digit_scores(Parts)) return digit_products(rows, g, sink, ready);
    ReadAhead ahead = rows.scores_after(g);
    const int64_t step = even_step(depth_, kDepthInL1);
    for (int64_t k = 0; k < depth_; k += step) {
      const int64_t count = std::min(step, depth_ - k);
      for (int64_t b = 0; b < blocks_; ++b) {
        float* tile = logits_ + b * 32 * kGroup;
        if (k == 0) {
          zero_accumulators();
        } else {
          load_accumulators(tile, 16 * kGroup, 16, kGroup * sizeof(float));
        }
        Pace pace(count * kSlots, Sink::kSteps);
        multiply<Parts>(scores(b, k), rows.scores(g, k), int(count), [&] {
          if (pace.due()) sink.step();
          ahead.step();
        });
        // The sink may still be at the last block of the group before.
        if (k == 0 && b == blocks_ - 1) sink.drain();
        store_accumulators(tile, 16 * kGroup, 16, kGroup * sizeof(float));
        if (k + count < depth_) continue;
        sink.drain();
        ready(b, tile, kGroup);
      }
    }
  }
  CrossStore<Parts> store(int64_t place, int64_t b, const float*, int64_t) const {
    bf16* into = weights_b_ + (2 * place * kChunkBlocks + b) * kCrossTile<Parts>;
    bf16* a = weights_a_;  // a place that nobody reads, unless there is a column gradient
    const int64_t step = with_column_gradients() ? groups_ * kCrossTile<Parts> : kCrossTile<Parts>;
    if (with_column_gradients()) a += (2 * b * groups_ + place) * kCrossTile<Parts>;
    return {{a, a + step, into, into + kChunkBlocks * kCrossTile<Parts>}};
  }

  void column_gradients(const CrossRows<Parts>& rows, const Band& band, int64_t first,
                        int64_t count, const LogitGradients<float>& out) const {
    const int64_t step = even_step(band.groups(), kRowStepsInL1);
    for (int64_t d = 0; d < depth_; ++d) {
      ReadAhead ahead = rows.values_after(d, band);
      // With a single band a slab of features leaves for `out` at once.
      float* slab = dk_ + (band.only() ? 0 : d * kBackwardColumns * 32);
      if (band.groups() == 0) std::fill_n(slab, kBackwardColumns * 32, 0.0f);
      for (int64_t g = 0; g < band.groups(); g += step) {
        const int64_t groups = std::min(step, band.groups() - g);
        for (int64_t b = 0; b < blocks_; ++b) {
          float* target = slab + b * 32 * 32;
          if (band.first && g == 0) {
            zero_accumulators();
          } else {
            load_accumulators(target, 16 * 32, 16, 32 * sizeof(float));
          }
          const bf16* a = weights_a_ + (2 * b * groups_ + g) * kCrossTile<Parts>;
          multiply<Parts>({a, a + groups_ * kCrossTile<Parts>, kCrossTile<Parts>},
                          rows.values(d, band.begin + g), int(groups), [&] { ahead.step(); });
          store_accumulators(target, 16 * 32, 16, 32 * sizeof(float));
        }
      }
      if (band.last) write(slab, d, first, count, out);
    }
  }
  // Each chunk's share starts from zero and is added as a whole: were it accumulated in place,
  // a sum over many columns would round as often as there are products.
  void row_gradients(const CrossRows<Parts>& rows, const Band& band, int64_t d, bool first) const {
    const bf16* a = t_ + 2 * d * kChunkBlocks * kCrossTile<Parts>;
    alignas(64) float tiles[2][4 * kCTileElements];
    TileAdder adder;
    for (int64_t g = 0; g < band.groups(); ++g) {
      const bf16* b = weights_b_ + 2 * g * kChunkBlocks * kCrossTile<Parts>;
      zero_accumulators();
      multiply<Parts>({a, a + kChunkBlocks * kCrossTile<Parts>, kCrossTile<Parts>},
                      {b, b + kChunkBlocks * kCrossTile<Parts>, kCrossTile<Parts>}, int(blocks_),
                      [&] { adder.step(); });
      store_accumulators(tiles[g % 2], 2 * kCTileElements, kCTileElements, 64);
      adder.drain();
      adder.begin(tiles[g % 2], rows.dq(d, band.begin + g), first);
    }
    adder.drain();
  }

 private:
  static constexpr int64_t kChunkBlocks = kBackwardColumns / 32;
  // Tiles along a product's inner dimension, so that its B operand stays in L1: of logits,
  // and of column gradients.
  static constexpr int64_t kDepthInL1 = Parts == 1 ? 16 : Parts == 2 ? 8 : 4;
  static constexpr int64_t kRowStepsInL1 = Parts == 1 ? 20 : kDepthInL1;
  // Slots for vector work beside the products of a block's logits, per step of their depth; half of
  // those of digits.
  static constexpr int64_t kSlots = Parts == 1 ? 4 : 12;

  void load_digits(const void* const (&rows)[32], int64_t b, int64_t ahead) const {
    const DigitRows source(rows, p_->d, units_ + b * 32);
    DigitBlock block;
    for (int64_t k = 0; k < logit_depth_; ++k) {
      source.split(k * kDigitDepth, ahead, block);
      for (int s = 0; s < kDigits; ++s) {
        std::memcpy(logit_tile(b, 0, k, s), block.digit[s], 2 * kTileElements);
        std::memcpy(logit_tile(b, 1, k, s), block.digit[s] + kTileElements, 2 * kTileElements);
      }
    }
  }
  // The sums of a block are combined beside the first products of the next, and the sink works
  // beside the others.
  template <class Sink, class Ready>
  void digit_products(const CrossRows<Parts>& rows, int64_t g, Sink& sink, Ready&& ready) const {
    DigitSums sums;
    DigitCombiner combiner;
    ReadAhead ahead = rows.scores_after(g);
    const int64_t step = even_step(logit_depth_, kDepthInL1);
    static_assert(kDepthInL1 <= kDigitSteps);
    for (int64_t k = 0; k < logit_depth_; k += step) {
      const int64_t count = std::min(step, logit_depth_ - k);
      const bool complete = k + count == logit_depth_;
      for (int64_t b = 0; b < blocks_; ++b) {
        float* tile = logits_ + b * 32 * kGroup;
        const auto turn = [&] {
          combiner.drain();
          if (!complete || b == 0) return;
          sink.drain();
          ready(b - 1, tile - 32 * kGroup, kGroup);
        };
        Pace pace(count * kSlots, Sink::kSteps);
        multiply_digits(
            scores(b, k), rows.scores(g, k), count, sums,
            [&] {
              combiner.step();
              ahead.step();
            },
            turn,
            [&] {
              if (pace.due()) sink.step();
              ahead.step();
            });
        // The sink may still be at the last block of the group before.
        if (k == 0 && b == blocks_ - 1 && (b == 0 || !complete)) sink.drain();
        combiner.begin(sums, units_ + b * 32, rows.digit_units(g), tile, k != 0);
      }
    }
    combiner.drain();
    sink.drain();
    ready(blocks_ - 1, logits_ + (blocks_ - 1) * 32 * kGroup, kGroup);
  }
  // Block b as A operand of the logits, from step k on.
  Operand scores(int64_t b, int64_t k) const {
    return {logit_tile(b, 0, k, 0), logit_tile(b, 1, k, 0), kCrossTile<Parts>};
  }
  bf16* logit_tile(int64_t b, int half, int64_t k, int s) const {
    return a_ + ((2 * b + half) * logit_depth_ + k) * kCrossTile<Parts> + s * kTileElements;
  }
  // A slab of 32 features of dK.
  void write(const float* slab, int64_t d, int64_t first, int64_t count,
             const LogitGradients<float>& out) const {
    const __m512 factor = _mm512_set1_ps(float(out.column_factor(*p_)));
    const __mmask16 mask0 = tail_mask(d * 32, p_->d), mask1 = tail_mask(d * 32 + 16, p_->d);
    for (int64_t c = 0; c < count; ++c) {
      void* target = static_cast<char*>(out.dk) + (first + c) * p_->d * element_size(out.dtype);
      const __m512 low = _mm512_mul_ps(_mm512_load_ps(slab + c * 32), factor);
      const __m512 high = _mm512_mul_ps(_mm512_load_ps(slab + c * 32 + 16), factor);
      store16(out.dtype, target, d * 32, mask0, low);
      store16(out.dtype, target, d * 32 + 16, mask1, high);
    }
  }
  // The inner dimension in equal steps: short ones pay for their accumulators' way in and out.
  static int64_t even_step(int64_t depth, int64_t limit) {
    const int64_t steps = (depth + limit - 1) / limit;
    return steps == 0 ? 1 : (depth + steps - 1) / steps;
  }
  int64_t logit_operand() const { return columns_ / 16 * logit_depth_ * kCrossTile<Parts>; }
  int64_t values() const { return kBackwardColumns * depth_ * 32 * Parts; }
  bool with_column_gradients() const { return purpose_ == Purpose::kBothGradients; }
  int64_t weights() const { return kBackwardColumns * groups_ * kGroup * Parts; }
  int64_t column_weights() const {
    return with_column_gradients() ? weights() : 2 * kCrossTile<Parts>;
  }
  int64_t column_sums() const {
    return with_column_gradients() ? kBackwardColumns * depth_ * 32 : 0;
  }

  const Logits* p_;
  int64_t depth_, logit_depth_, columns_, groups_;
  Purpose purpose_;
  int64_t blocks_ = 0;
  bf16* a_ = nullptr;
  float* units_ = nullptr;  // of the columns' digits
  bf16* t_ = nullptr;
  bf16* weights_a_ = nullptr;
  bf16* weights_b_ = nullptr;
  float* logits_ = nullptr;
  float* dk_ = nullptr;
};

}  // namespace sslk::amx

#endif  // SSLK_ISA_AMX
