// What operators ask torch for on a GPU, where there is none: any device, and the default stream.
#include <cstdint>

extern "C" {
int32_t aoti_torch_create_device_guard(int32_t, void** guard) {
  *guard = nullptr;
  return 0;
}
int32_t aoti_torch_delete_device_guard(void*) { return 0; }
__attribute__((visibility("default"))) int32_t aoti_torch_get_current_cuda_stream(int32_t,
                                                                                  void** stream) {
  *stream = nullptr;
  return 0;
}
}
