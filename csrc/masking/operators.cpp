// Token masking as torch calls it.
#include "arguments.h"

namespace sslk::operators {
namespace {

std::tuple<Tensor, Tensor> mask_tokens(
    const Tensor& input_ids, const Tensor& sequence_ids,
    const std::optional<Tensor>& attention_mask, const std::optional<Tensor>& word_ids,
    int64_t mask_token_id, int64_t vocab_size, const std::vector<int64_t>& special_ids,
    int64_t seed, const std::string& strategy, int64_t select_below, int64_t replace_below,
    int64_t random_below, const std::vector<int64_t>& longer_from, int64_t ignore_index) {
  return with_masking(input_ids, sequence_ids, attention_mask, word_ids, mask_token_id, vocab_size,
                      special_ids, seed, strategy, select_below, replace_below, random_below,
                      longer_from, ignore_index, [&](const auto& problem) {
                        STD_TORCH_CHECK(sslk::mask_tokens(problem),
                                        "mask_tokens: input_ids must lie in [0, ", vocab_size, ")");
                      });
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CPU, m) {
  m.impl("mask_tokens", TORCH_BOX(&sslk::operators::mask_tokens));
}
