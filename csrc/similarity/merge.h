// Log-sum-exps from what blocks leave behind.
#pragma once

#include <cstdint>

namespace sslk::device {

// lse [count] from partial [lines, count], log2 of sums, in the order of the lines; with `run` from
// as many lines for each row as sum_pairs in forward.cu has filled. Returns a cudaError_t.
int merge_lines(const float* partial, int64_t count, int64_t lines, int64_t run, float* lse,
                void* stream);

}  // namespace sslk::device
