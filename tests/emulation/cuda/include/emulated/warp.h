// What the lanes of a warp do together: barriers, shuffles, votes; and the block's barrier.
#pragma once

#include <type_traits>

#include "machine.h"

EMULATED_CALL inline void __syncthreads() { emulated::wait_for_block(EMULATED_WHERE); }

EMULATED_CALL inline void __syncwarp(uint32_t mask = 0xffffffff) {
  emulated::exchange(emulated::WarpOp::kSync, mask, {}, EMULATED_WHERE);
}

namespace emulated {

// The value of lane `source`; a lane that has no source keeps its own.
template <class T>
EMULATED_UNSEEN T shuffle(uint32_t mask, T value, unsigned source, bool has_source,
                          const void* where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  Slot slot = {};
  __builtin_memcpy(&slot, &value, sizeof(T));
  const Slot* const slots = exchange(WarpOp::kShuffle, mask, slot, where);
  if (!has_source) return value;
  if (!(mask >> source & 1)) fail("Divergence", "a shuffle from a lane outside its mask", where);
  T result;
  __builtin_memcpy(&result, &slots[source], sizeof(T));
  return result;
}

EMULATED_UNSEEN inline uint32_t vote(uint32_t mask, bool yes, const void* where) {
  const Slot* const slots = exchange(WarpOp::kVote, mask, {{yes}}, where);
  uint32_t all = 0;
  for (unsigned i = 0; i < kWarp; ++i) {
    if (mask >> i & 1) all |= uint32_t(slots[i].words[0]) << i;
  }
  return all;
}

}  // namespace emulated

template <class T>
EMULATED_CALL T __shfl_sync(uint32_t mask, T value, int source, int width = 32) {
  const unsigned first = emulated::lane() & ~unsigned(width - 1);
  return emulated::shuffle(mask, value, first | (unsigned(source) & unsigned(width - 1)), true,
                           EMULATED_WHERE);
}
template <class T>
EMULATED_CALL T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32) {
  const unsigned lane = emulated::lane(), source = lane ^ unsigned(bits);
  const unsigned last = lane | unsigned(width - 1);
  return emulated::shuffle(mask, value, source, source <= last, EMULATED_WHERE);
}
template <class T>
EMULATED_CALL T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32) {
  const unsigned lane = emulated::lane(), last = lane | unsigned(width - 1);
  return emulated::shuffle(mask, value, lane + by, lane + by <= last, EMULATED_WHERE);
}
template <class T>
EMULATED_CALL T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32) {
  const unsigned lane = emulated::lane(), first = lane & ~unsigned(width - 1);
  return emulated::shuffle(mask, value, lane - by, lane >= first + by, EMULATED_WHERE);
}

EMULATED_CALL inline uint32_t __ballot_sync(uint32_t mask, int yes) {
  return emulated::vote(mask, yes != 0, EMULATED_WHERE);
}
EMULATED_CALL inline int __any_sync(uint32_t mask, int yes) {
  return emulated::vote(mask, yes != 0, EMULATED_WHERE) != 0;
}
EMULATED_CALL inline int __all_sync(uint32_t mask, int yes) {
  return emulated::vote(mask, yes != 0, EMULATED_WHERE) == mask;
}
