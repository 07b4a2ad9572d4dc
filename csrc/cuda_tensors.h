// What operators on a GPU share: its current stream, and errors of launches.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include "tensors.h"

// What a cudaError_t means.
extern "C" const char* sslk_cuda_error(int code);

namespace sslk {

// Makes the device of a tensor the current one for as long as this lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(const Tensor& x) : index_(x.get_device_index()), guard_(index_) {}

  void* stream() const {
    // Looked up when it is needed, so that the library also loads where torch has no CUDA.
    using Function = int32_t (*)(int32_t, void**);
    static const auto current =
        reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, "aoti_torch_get_current_cuda_stream"));
    STD_TORCH_CHECK(current, "this PyTorch has no CUDA");
    void* stream = nullptr;
    STD_TORCH_CHECK(current(index_, &stream) == 0, "there is no current stream");
    return stream;
  }

 private:
  const int32_t index_;
  const torch::stable::accelerator::DeviceGuard guard_;
};

inline void check_launch(int code, const char* op) {
  STD_TORCH_CHECK(code == 0, op, ": the CUDA kernel was not launched: ", sslk_cuda_error(code));
}

}  // namespace sslk
