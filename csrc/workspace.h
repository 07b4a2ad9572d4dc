// Scratch memory that is reused between calls: fresh pages cost more than the work done in them.
#pragma once

#include <cstddef>
#include <cstdint>

// Under AddressSanitizer every part is followed by bytes that nobody may touch.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define SSLK_GUARD_BYTES 64
#else
#define SSLK_GUARD_BYTES 0
#endif

namespace sslk {

// Memory that outlives a call, from the cache that workspaces come from and go back to.
struct MemoryBlock {
  char* memory;
  size_t size;  // at least what was asked for
};
MemoryBlock borrow_block(size_t bytes);
void give_back(MemoryBlock block);

// A zero-copy carve-up of one cached block. Give the total first, then take() 64-byte aligned
// parts.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : block_(borrow_block(bytes)), cursor_(block_.memory) {}
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* take(int64_t count) {
    T* part = reinterpret_cast<T*>(cursor_);
    cursor_ += padded<T>(count);
#if SSLK_GUARD_BYTES
    char* end = reinterpret_cast<char*>(part) + size_t(count) * sizeof(T);
    ASAN_POISON_MEMORY_REGION(end, cursor_ - end);
#endif
    return part;
  }

  // Takes back all parts.
  void rewind() {
#if SSLK_GUARD_BYTES
    ASAN_UNPOISON_MEMORY_REGION(block_.memory, block_.size);
#endif
    cursor_ = block_.memory;
  }

  template <class T>
  static size_t padded(int64_t count) {
    return ((size_t(count) * sizeof(T) + 63) & ~size_t(63)) + SSLK_GUARD_BYTES;
  }

 private:
  const MemoryBlock block_;
  char* cursor_;
};

// Asks for huge pages where fresh memory of this size would cost a page fault every 4 KiB.
void advise_huge_pages(void* memory, size_t bytes);

// Gives the cached blocks back to the system.
void release_workspaces();

}  // namespace sslk
