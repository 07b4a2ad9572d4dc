// In place of NVIDIA's header: cp.async by its C functions.
#pragma once

#include "emulated/machine.h"

EMULATED_CALL inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes,
                                                  size_t zeros = 0) {
  emulated::copy_async(to, from, bytes, zeros, EMULATED_WHERE);
}
EMULATED_CALL inline void __pipeline_commit() { emulated::commit_copies(); }
EMULATED_CALL inline void __pipeline_wait_prior(size_t groups) {
  emulated::wait_for_copies(groups, EMULATED_WHERE);
}
