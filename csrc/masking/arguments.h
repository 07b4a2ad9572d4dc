// From what torch hands over to MaskTokens, on any device.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../tensors.h"
#include "mask_tokens.h"

namespace sslk::operators {

constexpr int64_t kCertain = int64_t(1) << 32;

inline MaskStrategy strategy_of(const std::string& name) {
  if (name == "token") return MaskStrategy::kToken;
  if (name == "whole_word") return MaskStrategy::kWholeWord;
  STD_TORCH_CHECK(name == "span", "strategy is not token, whole_word or span");
  return MaskStrategy::kSpan;
}

// Pointer to [batch, length] of one dtype like input_ids, or null.
template <class T>
const T* like_ids(const std::optional<Tensor>& x, const Tensor& input_ids, ScalarType dtype,
                  const char* name) {
  if (!x) return nullptr;
  check_matrix(*x, name);
  STD_TORCH_CHECK(x->scalar_type() == dtype && x->size(0) == input_ids.size(0) &&
                      x->size(1) == input_ids.size(1),
                  name, " does not fit input_ids");
  return const_data<T>(*x);
}

inline void check_threshold(int64_t x, const char* name) {
  STD_TORCH_CHECK(x >= 0 && x <= kCertain, name, " is not in [0, 2**32]");
}

// Calls run(problem), a MaskTokens, and returns masked_ids and labels.
template <class Run>
std::tuple<Tensor, Tensor> with_masking(const Tensor& input_ids, const Tensor& sequence_ids,
                                        const std::optional<Tensor>& attention_mask,
                                        const std::optional<Tensor>& word_ids,
                                        int64_t mask_token_id, int64_t vocab_size,
                                        const std::vector<int64_t>& special_ids, int64_t seed,
                                        const std::string& strategy, int64_t select_below,
                                        int64_t replace_below, int64_t random_below,
                                        const std::vector<int64_t>& longer_from,
                                        int64_t ignore_index, Run&& run) {
  check_matrix(input_ids, "input_ids");
  const int64_t batch = input_ids.size(0), length = input_ids.size(1);
  STD_TORCH_CHECK(length < (int64_t(1) << 31), "input_ids has rows too long");
  STD_TORCH_CHECK(sequence_ids.dim() == 1 && sequence_ids.size(0) == batch &&
                      sequence_ids.is_contiguous() &&
                      sequence_ids.scalar_type() == ScalarType::Long,
                  "sequence_ids is not [batch] int64");
  STD_TORCH_CHECK(vocab_size >= 1 && vocab_size <= (int64_t(1) << 31),
                  "vocab_size is not in [1, 2**31]");
  const int64_t special_count = int64_t(special_ids.size());
  for (int64_t i = 0; i < special_count; ++i) {
    STD_TORCH_CHECK(
        special_ids[i] >= (i ? special_ids[i - 1] + 1 : 0) && special_ids[i] < vocab_size,
        "special_ids are not ascending ids of the vocabulary");
  }
  check_threshold(select_below, "select_below");
  check_threshold(replace_below, "replace_below");
  check_threshold(random_below, "random_below");
  STD_TORCH_CHECK(special_count < vocab_size || random_below <= replace_below,
                  "special_ids leave no id to draw");
  STD_TORCH_CHECK(strategy != "whole_word" || word_ids, "word_ids are needed for whole words");

  Tensor masked_ids = torch::stable::new_empty(input_ids, {batch, length});
  Tensor labels = torch::stable::new_empty(input_ids, {batch, length}, ScalarType::Long);
  const auto run_for = [&](auto zero) {
    using Id = decltype(zero);
    run(MaskTokens<Id>{
        batch,
        length,
        const_data<Id>(input_ids),
        const_data<int64_t>(sequence_ids),
        like_ids<bool>(attention_mask, input_ids, ScalarType::Bool, "attention_mask"),
        like_ids<int64_t>(word_ids, input_ids, ScalarType::Long, "word_ids"),
        mask_token_id,
        vocab_size,
        special_ids.data(),
        special_count,
        uint64_t(seed),
        strategy_of(strategy),
        select_below,
        replace_below,
        random_below,
        longer_from.data(),
        int64_t(longer_from.size()),
        ignore_index,
        data<Id>(masked_ids),
        data<int64_t>(labels)});
  };
  if (input_ids.scalar_type() == ScalarType::Int) {
    run_for(int32_t{});
  } else {
    STD_TORCH_CHECK(input_ids.scalar_type() == ScalarType::Long, "input_ids is not int32 or int64");
    run_for(int64_t{});
  }
  return {masked_ids, labels};
}

}  // namespace sslk::operators
