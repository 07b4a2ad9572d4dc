// New tensors whose memory comes from the cache of workspaces and goes back there when they end:
// the tens of megabytes of a step's views would else be fresh pages every time, cleared by the
// system.
#pragma once

#include <cstdint>
#include <vector>

#include "tensors.h"
#include "workspace.h"

#if defined(__linux__)
// Came with torch 2.11, later than the release that we declare; where libtorch lacks it, it is
// null.
extern "C" __attribute__((weak)) AOTITorchError
torch_from_blob(void* data, int64_t dims, const int64_t* sizes, const int64_t* strides,
                int64_t offset, int32_t dtype, int32_t device_type, int32_t device_index,
                AtenTensorHandle* result, int32_t layout, const uint8_t* metadata,
                int64_t metadata_size, void (*deleter)(void* data, void* context), void* context);
#endif

namespace sslk {

// Less than this malloc keeps as well.
constexpr int64_t kPooledBytes = int64_t(2) << 20;

// A contiguous tensor that nothing was written to, on the CPU as `like` is. As one of
// torch.from_numpy it cannot be resized to more than it has.
inline Tensor new_pooled(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype,
                         int64_t element_bytes) {
  int64_t bytes = element_bytes;
  for (int64_t size : sizes) bytes *= size;
#if defined(__linux__)
  if (bytes >= kPooledBytes && torch_from_blob) {
    namespace stable = torch::stable::detail;
    std::vector<int64_t> strides(sizes.size());
    int64_t stride = 1;
    for (size_t i = sizes.size(); i-- > 0; stride *= sizes[i]) strides[i] = stride;
    const MemoryBlock block = borrow_block(size_t(bytes));
    const auto end = [](void* memory, void* size) {
      give_back({static_cast<char*>(memory), reinterpret_cast<size_t>(size)});
    };
    AtenTensorHandle tensor = nullptr;
    const AOTITorchError error = torch_from_blob(
        block.memory, int64_t(sizes.size()), sizes.data(), strides.data(), 0,
        stable::to<int32_t>(stable::from(dtype)), aoti_torch_device_type_cpu(), -1, &tensor,
        aoti_torch_layout_strided(), nullptr, 0, end, reinterpret_cast<void*>(block.size));
    if (error != AOTI_TORCH_SUCCESS) give_back(block);
    STABLE_TORCH_ERROR_CODE_CHECK(error);
    return Tensor(tensor);
  }
#endif
  Tensor fresh = torch::stable::new_empty(like, sizes, dtype);
  advise_huge_pages(fresh.mutable_data_ptr(), size_t(bytes));
  return fresh;
}

}  // namespace sslk
