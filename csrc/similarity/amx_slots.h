// What fills the slots between tile products beside the vector work on logits: asking for what
// comes next, adding what the products before have made, and a pace for all of it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "amx.h"

namespace sslk::amx {

// Asks for what the next products stream through, a line beside each product of these: the
// third-level cache is too slow to be waited for.
class ReadAhead {
 public:
  ReadAhead() = default;
  ReadAhead(const Operand& operand, int64_t steps) {
    const int64_t bytes = steps * operand.step * int64_t(sizeof(bf16));
    add(operand.first, bytes);
    add(operand.second, bytes);
  }
  // Whole lines, after those that were added before; at most three pieces.
  void add(const void* from, int64_t bytes) {
    pieces_[count_++] = {static_cast<const char*>(from), static_cast<const char*>(from) + bytes};
  }
  SSLK_INLINE void step() {
    if (at_ == end_) {
      if (next_ == count_) return;
      at_ = pieces_[next_].begin;
      end_ = pieces_[next_++].end;
    }
    _mm_prefetch(at_, _MM_HINT_T1);
    at_ += 64;
  }

 private:
  struct Piece {
    const char *begin, *end;
  };

  Piece pieces_[3];
  int count_ = 0, next_ = 0;
  const char *at_ = nullptr, *end_ = nullptr;
};

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

// Spreads steps of vector work evenly over the slots between tile products: crowded into the first
// of many, they would take turns with the products instead of running beside them.
class Pace {
 public:
  Pace(int64_t slots, int64_t steps) : every_(int(std::max<int64_t>(1, slots / steps))) {}
  SSLK_INLINE bool due() {
    if (--left_ != 0) return false;
    left_ = every_;
    return true;
  }

 private:
  int every_, left_ = 1;
};

// Adds four C tiles to their sums, in steps small enough to run between tile products.
class TileAdder {
 public:
  // first: there is no sum yet.
  void begin(const float* tiles, float* sums, bool first) {
    tiles_ = tiles;
    sums_ = sums;
    first_ = first;
    next_ = 0;
  }
  SSLK_INLINE void step() {
    if (next_ == kEnd) return;
    for (int i = next_; i < next_ + 32; i += 16) {
      const __m512 x = _mm512_load_ps(tiles_ + i);
      // Two tiles on: by then it is here, although another worker had it last.
      _mm_prefetch(sums_ + i + 2 * kEnd, _MM_HINT_T0);
      _mm512_store_ps(sums_ + i, first_ ? x : _mm512_add_ps(_mm512_load_ps(sums_ + i), x));
    }
    next_ += 32;
  }
  void drain() {
    while (next_ != kEnd) step();
  }

 private:
  static constexpr int kEnd = 4 * kCTileElements;

  const float* tiles_ = nullptr;
  float* sums_ = nullptr;
  bool first_ = false;
  int next_ = kEnd;
};

}  // namespace sslk::amx
