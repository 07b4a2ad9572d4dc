// Stacks, and going from one to another. x86-64 alone.
#pragma once

#include <cstddef>

namespace emulated {

class Fiber {
 public:
  // Makes the fiber ready to run entry(), which must not return, from its beginning.
  void start(void (*entry)());
  // From the scheduler into the fiber, until it leaves.
  void enter();
  // From the fiber back to the scheduler; for good, when it is not entered again.
  void leave();
  // What entry() calls first.
  static void arrived();

  bool has(const void* address) const;  // on its stack

 private:
  char* stack_ = nullptr;
  void* pointer_ = nullptr;
  void* shadow_ = nullptr;  // AddressSanitizer's
};

}  // namespace emulated
