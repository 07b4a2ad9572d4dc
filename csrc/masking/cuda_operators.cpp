// Token masking on a GPU as torch calls it.
#include "../cuda_tensors.h"
#include "arguments.h"
#include "cuda.h"

namespace sslk::operators {
namespace {

int launch(const MaskTokens<int32_t>& problem, int32_t* workspace, void* stream) {
  return sslk_cuda_mask_tokens_int32(&problem, workspace, stream);
}
int launch(const MaskTokens<int64_t>& problem, int32_t* workspace, void* stream) {
  return sslk_cuda_mask_tokens_int64(&problem, workspace, stream);
}

std::tuple<Tensor, Tensor> mask_tokens(
    const Tensor& input_ids, const Tensor& sequence_ids,
    const std::optional<Tensor>& attention_mask, const std::optional<Tensor>& word_ids,
    int64_t mask_token_id, int64_t vocab_size, const std::vector<int64_t>& special_ids,
    int64_t seed, const std::string& strategy, int64_t select_below, int64_t replace_below,
    int64_t random_below, const std::vector<int64_t>& longer_from, int64_t ignore_index) {
  return with_masking(
      input_ids, sequence_ids, attention_mask, word_ids, mask_token_id, vocab_size, special_ids,
      seed, strategy, select_below, replace_below, random_below, longer_from, ignore_index,
      [&](const auto& problem) {
        STD_TORCH_CHECK(problem.special_count <= kMostSpecialIds, "mask_tokens: special_ids are ",
                        problem.special_count, ", the CUDA kernel takes at most ", kMostSpecialIds);
        const CurrentDevice device(input_ids);
        const Tensor workspace = torch::stable::new_empty(
            input_ids, {problem.batch, mask_workspace(problem.strategy, problem.length)},
            ScalarType::Int);
        check_launch(launch(problem, data<int32_t>(workspace), device.stream()), "mask_tokens");
      });
}

}  // namespace
}  // namespace sslk::operators

STABLE_TORCH_LIBRARY_IMPL(sslkernels, CUDA, m) {
  m.impl("mask_tokens", TORCH_BOX(&sslk::operators::mask_tokens));
}
