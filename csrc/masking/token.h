// What becomes of one token of a sequence: the same functions for the CPU and for CUDA.
#pragma once

#include <cstdint>

#include "../philox.h"

namespace sslk {

// A Rule below is anything that has special_ids, special_count, vocab_size, mask_token_id,
// replace_below and random_below, as MaskTokens has them.

// How many special ids i there are with before(i), which is so for the first ones alone.
template <class Before>
SSLK_HOST_DEVICE inline int64_t count_special(int64_t count, Before&& before) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (before(middle)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

template <class Rule>
SSLK_HOST_DEVICE inline bool is_special(const Rule& rule, int64_t id) {
  const int64_t at =
      count_special(rule.special_count, [&](int64_t i) { return rule.special_ids[i] < id; });
  return at < rule.special_count && rule.special_ids[at] == id;
}

// The id with as many ordinary ones before it as the draw says.
template <class Rule>
SSLK_HOST_DEVICE inline int64_t ordinary_id(const Rule& rule, uint32_t choice) {
  const int64_t rank = philox_below(choice, uint32_t(rule.vocab_size - rule.special_count));
  return rank + count_special(rule.special_count,
                              [&](int64_t i) { return rule.special_ids[i] - i <= rank; });
}

// How many units a span has more than one.
template <class Rule>
SSLK_HOST_DEVICE inline int64_t units_beyond_first(const Rule& rule, uint32_t word) {
  int64_t more = 0;
  while (more < rule.longer_count && rule.longer_from[more] <= int64_t(word)) ++more;
  return more;
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
    return (!attention || attention[i]) && (!words || words[i] >= 0) && !is_special(rule, ids[i]);
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
