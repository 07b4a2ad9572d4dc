// Token masking on a GPU.
#pragma once

#include "mask_tokens.h"

namespace sslk {

// What travels with the launch, since these tables lie in the memory of the host.
constexpr int64_t kMostSpecialIds = 512;
constexpr int64_t kMostLonger = 16;

// int32 that a row of the batch needs; none but for spans.
constexpr int64_t mask_workspace(MaskStrategy strategy, int64_t length) {
  return strategy == MaskStrategy::kSpan ? 4 * length + 1 : 0;
}

}  // namespace sslk

// The tensors of the problem lie on the current device, its special_ids and longer_from on the
// host. workspace: [batch, mask_workspace] int32. Ids outside the vocabulary are not looked for.
// Returns a cudaError_t.
extern "C" int sslk_cuda_mask_tokens_int32(const sslk::MaskTokens<int32_t>* problem,
                                           int32_t* workspace, void* stream);
extern "C" int sslk_cuda_mask_tokens_int64(const sslk::MaskTokens<int64_t>* problem,
                                           int32_t* workspace, void* stream);
