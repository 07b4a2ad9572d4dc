// Losses of implicit logits on a GPU, and their gradients. Functions return a cudaError_t.
#pragma once

#include <cstdint>

#include "problem.h"

namespace sslk {

constexpr int64_t kMostFeatures = 1024;
constexpr int64_t kMostExcluded = 8;  // what travels with the launch

// Logits s_ij = scale <q_i, k_j> + bias_j. Memory is that of the current device, but for `exclude`.
struct DeviceLogits {
  const void* q;  // [m, d]
  const void* k;  // [n, d]; null: q
  Dtype dtype;    // kBFloat16 or kFloat16
  int64_t m, n, d;
  const float* scale;  // one number
  const float* bias;   // [n] or null
  // Column (i + offset) mod n is not there for row i, for every offset.
  const int64_t* exclude;
  int64_t excluded;
};

// With G_ij the gradient of the logits: dq = scale G K, dk = scale G^T Q, dbias_j = sum_i G_ij,
// dscale = sum_ij G_ij <q_i, k_j>. dk and dbias may be null. Where k is null dq takes both sides.
struct DeviceGradients {
  void* dq;  // of the dtype of q
  void* dk;
  float* dscale;
  float* dbias;
};

// weight sum_ij log(1 + exp(-y_ij (s_ij + bias))): y_ij is 1 for j = i + first, and else -1.
struct DeviceSigmoid {
  DeviceLogits logits;  // with keys, without a bias and exclusions
  const float* bias;    // one number
  int64_t first;        // at least 0
  float weight;
};

// Row i of q and row first + i of k are a pair.
struct DevicePairs {
  DeviceLogits logits;  // with keys, without a bias and exclusions
  int64_t first;        // first + m is at most n
};

// Of rows [m], of columns [n] and of pairs [m].
struct DevicePairTerms {
  const float *rows, *columns, *pairs;
};

// What a cross entropy over columns needs of each row of the capped logits softcap tanh(s_ij /
// softcap); of a softcap of 0: of s_ij. A row with target -1 does not count.
struct DeviceTerms {
  DeviceLogits logits;         // with keys, without exclusions
  const int64_t* target;       // [m]: -1 or a column; others end the kernel with an error
  const float* column_weight;  // [n] or null
  double softcap;
};

// [m] each; zeros in a row that does not count.
struct DeviceRowTerms {
  float *lse, *target_logit, *weighted_sum, *largest;
};
struct DeviceRowTermGradients {
  const float *lse, *target_logit, *weighted_sum;
};

}  // namespace sslk

// How many floats of memory on the device a call needs beside its tensors.
extern "C" int64_t sslk_cuda_logsumexp_workspace(const sslk::DeviceLogits* problem);
extern "C" int64_t sslk_cuda_logsumexp_gradients_workspace(const sslk::DeviceLogits* problem);
extern "C" int64_t sslk_cuda_sigmoid_workspace(const sslk::DeviceSigmoid* problem);
extern "C" int64_t sslk_cuda_sigmoid_gradients_workspace(const sslk::DeviceSigmoid* problem);
extern "C" int64_t sslk_cuda_pairs_workspace(const sslk::DevicePairs* problem);
extern "C" int64_t sslk_cuda_pairs_gradients_workspace(const sslk::DevicePairs* problem);
extern "C" int64_t sslk_cuda_terms_workspace(const sslk::DeviceTerms* problem);
extern "C" int64_t sslk_cuda_terms_gradients_workspace(const sslk::DeviceTerms* problem);

// lse [m]: -inf for a row with no column.
extern "C" int sslk_cuda_logsumexp(const sslk::DeviceLogits* problem, float* lse, float* workspace,
                                   void* stream);

// The gradients of sum_i grad_i lse_i, the same on every run.
extern "C" int sslk_cuda_logsumexp_gradients(const sslk::DeviceLogits* problem, const float* grad,
                                             const float* lse, const sslk::DeviceGradients* out,
                                             float* workspace, void* stream);

// The value, one number.
extern "C" int sslk_cuda_sigmoid(const sslk::DeviceSigmoid* problem, float* value, float* workspace,
                                 void* stream);

// The value and its gradients; dbias is one number, dq and dk are float32 where q is float16: their
// elements may be too small for it.
extern "C" int sslk_cuda_sigmoid_gradients(const sslk::DeviceSigmoid* problem, float* value,
                                           const sslk::DeviceGradients* out, float* workspace,
                                           void* stream);

// row_lse [m] over columns, column_lse [n] over rows, pair_logit [m].
extern "C" int sslk_cuda_pairs(const sslk::DevicePairs* problem, float* row_lse, float* column_lse,
                               float* pair_logit, float* workspace, void* stream);

// The gradients of the sum of all terms times `grad`; dbias is not touched.
extern "C" int sslk_cuda_pairs_gradients(const sslk::DevicePairs* problem,
                                         const sslk::DevicePairTerms* grad, const float* row_lse,
                                         const float* column_lse, const sslk::DeviceGradients* out,
                                         float* workspace, void* stream);

// The workspace is aligned to 16 bytes.
extern "C" int sslk_cuda_terms(const sslk::DeviceTerms* problem, const sslk::DeviceRowTerms* out,
                               float* workspace, void* stream);

// The gradients of the sum of the three terms times `grad`, zero in a row that does not count.
extern "C" int sslk_cuda_terms_gradients(const sslk::DeviceTerms* problem,
                                         const sslk::DeviceRowTermGradients* grad, const float* lse,
                                         const sslk::DeviceGradients* out, float* workspace,
                                         void* stream);

// sum_i a_i b_i, always in the same order.
extern "C" int sslk_cuda_dot(const float* a, const float* b, int64_t count, float* out,
                             void* stream);
