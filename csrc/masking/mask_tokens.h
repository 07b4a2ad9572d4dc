// Token masking: BERT's rule, by token, by whole word or by span. What is drawn for what stands in
// the docstring of sslkernels/masking/reference.py, which this follows bit for bit.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sslk {

enum class MaskStrategy { kToken, kWholeWord, kSpan };

// Id is int32_t or int64_t.
template <class Id>
struct MaskTokens {
  int64_t batch;
  int64_t length;
  const Id* input_ids;          // [batch, length]
  const int64_t* sequence_ids;  // [batch]
  const bool* attention_mask;   // [batch, length], or null
  const int64_t* word_ids;      // [batch, length], or null; never null for whole words
  int64_t mask_token_id;
  int64_t vocab_size;          // at most 2^31
  const int64_t* special_ids;  // ascending, without repetition
  int64_t special_count;
  uint64_t seed;
  MaskStrategy strategy;
  int64_t select_below;  // thresholds in [0, 2^32], as in philox.h
  int64_t replace_below;
  int64_t random_below;
  const int64_t* longer_from;  // ascending: a span has one unit more for each that its draw reaches
  int64_t longer_count;
  int64_t ignore_index;
  Id* masked_ids;   // [batch, length]
  int64_t* labels;  // [batch, length]

  bool is_special(Id id) const {
    return std::binary_search(special_ids, special_ids + special_count, id);
  }
  // How many units a span has more than one.
  int64_t units_beyond_first(uint32_t word) const {
    return std::upper_bound(longer_from, longer_from + longer_count, int64_t(word)) - longer_from;
  }
};

// False when an id lies outside the vocabulary.
template <class Id>
bool mask_tokens(const MaskTokens<Id>& problem);

}  // namespace sslk
