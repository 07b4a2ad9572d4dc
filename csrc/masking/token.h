// What becomes of one token of a sequence: the same functions for the CPU and for CUDA.
#pragma once

#include <cstdint>

#include "../philox.h"

namespace sslk {

// A Rule below has what MaskTokens has of the rule; how its tables are searched is its own affair,
// since they lie in the memory of the host or among the arguments of a kernel.

// The id with as many ordinary ones before it as the draw says.
template <class Rule>
SSLK_HOST_DEVICE inline int64_t ordinary_id(const Rule& rule, uint32_t choice) {
  const int64_t rank = philox_below(choice, uint32_t(rule.vocab_size - rule.special_count));
  int64_t low = 0, high = rule.special_count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (rule.special_ids[middle] - middle <= rank) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return rank + low;
}

// One row of the batch.
template <class Id>
struct MaskRow {
  const Id* ids;
  Id* masked;
  int64_t* labels;
  const bool* attention;  // or null
  const int64_t* words;   // or null
  uint64_t seed, sequence;

  template <class Problem>
  SSLK_HOST_DEVICE static MaskRow of(const Problem& p, int64_t row) {
    const int64_t offset = row * p.length;
    return {p.input_ids + offset,
            p.masked_ids + offset,
            p.labels + offset,
            p.attention_mask ? p.attention_mask + offset : nullptr,
            p.word_ids ? p.word_ids + offset : nullptr,
            p.seed,
            uint64_t(p.sequence_ids[row])};
  }

  SSLK_HOST_DEVICE PhiloxBlock draw(Stream stream, int64_t index) const {
    return philox_block(seed, stream, sequence, uint32_t(index));
  }

  template <class Rule>
  SSLK_HOST_DEVICE bool maskable(const Rule& rule, int64_t i) const {
    return (!attention || attention[i]) && (!words || words[i] >= 0) && !rule.is_special(ids[i]);
  }

  template <class Rule>
  SSLK_HOST_DEVICE void select(const Rule& rule, int64_t i, uint32_t fate, uint32_t choice) const {
    labels[i] = ids[i];
    if (fate < rule.replace_below) {
      masked[i] = Id(rule.mask_token_id);
    } else if (fate < rule.random_below) {
      masked[i] = Id(ordinary_id(rule, choice));
    }
  }

  // How many tokens spans select of n that could be.
  SSLK_HOST_DEVICE int64_t budget(int64_t n, int64_t select_below) const {
    return (n * select_below + draw(Stream::kMaskBudget, 0).word[0]) >> 32;
  }
};

}  // namespace sslk
