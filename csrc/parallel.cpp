#include "parallel.h"

#include <torch/csrc/stable/ops.h>

namespace sslk {

int thread_count() { return static_cast<int>(torch::stable::get_num_threads()); }

void parallel_run(int64_t n, const std::function<void(int64_t)>& body) {
  if (n == 1) return body(0);
  torch::stable::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace sslk
