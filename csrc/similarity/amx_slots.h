// What fills the slots between tile products beside the vector work on logits: asking for what
// comes next, adding what the products before have made, and a pace for all of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "amx.h"

namespace sslk::amx {

// Asks for an operand that the next products stream through, a line beside each product of these:
// the third-level cache is too slow to be waited for.
class ReadAhead {
 public:
  ReadAhead() = default;
  ReadAhead(const Operand& operand, int64_t steps)
      : at_(reinterpret_cast<const char*>(operand.first)),
        other_(reinterpret_cast<const char*>(operand.second)),
        bytes_(steps * operand.step * int64_t(sizeof(bf16))),
        end_(at_ + bytes_) {}
  SSLK_INLINE void step() {
    if (at_ == end_) {
      if (other_ == nullptr) return;
      at_ = std::exchange(other_, nullptr);
      end_ = at_ + bytes_;
    }
    _mm_prefetch(at_, _MM_HINT_T1);
    at_ += 64;
  }

 private:
  const char* at_ = nullptr;
  const char* other_ = nullptr;  // where the operand's second half is, until it is begun
  int64_t bytes_ = 0;            // of a half, whole lines
  const char* end_ = nullptr;
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
