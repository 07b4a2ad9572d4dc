#include "fibers.h"

#include <sys/mman.h>

#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the registers that a call must keep and the stack pointer, and takes those of another.
asm(R"(
.text
.hidden emulated_switch
.globl emulated_switch
emulated_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
extern "C" void emulated_switch(void** from, void* to);

namespace emulated {
namespace {

constexpr size_t kStackBytes = 256 << 10;
constexpr int kSavedRegisters = 6;

void* scheduler_pointer = nullptr;

#if defined(__SANITIZE_ADDRESS__)
void* scheduler_shadow = nullptr;
const void* scheduler_stack = nullptr;
size_t scheduler_bytes = 0;
#endif

}  // namespace

void Fiber::start(void (*entry)()) {
  if (!stack_) {
    void* const memory =
        mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    stack_ = static_cast<char*>(memory);
  }
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStackBytes);  // it may have been left in a function
#endif
  shadow_ = nullptr;
  // At entry the stack is 8 below a multiple of 16, as after a call.
  void** top = reinterpret_cast<void**>(stack_ + kStackBytes - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  pointer_ = top;
}

void Fiber::enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_shadow, stack_, kStackBytes);
#endif
  emulated_switch(&scheduler_pointer, pointer_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_shadow, nullptr, nullptr);
#endif
}

void Fiber::leave() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&shadow_, scheduler_stack, scheduler_bytes);
#endif
  emulated_switch(&pointer_, scheduler_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(shadow_, &scheduler_stack, &scheduler_bytes);
#endif
}

void Fiber::arrived() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
}

bool Fiber::has(const void* address) const {
  const char* const at = static_cast<const char*>(address);
  return at >= stack_ && at < stack_ + kStackBytes;
}

}  // namespace emulated
