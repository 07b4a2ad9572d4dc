#include "workspace.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sslk {
namespace {

constexpr size_t kPage = 4096, kHugePage = size_t(2) << 20;
constexpr size_t kKeepBytes = size_t(512) << 20;  // cached at most, beyond what is in use

// Never destroyed: a tensor may give its memory back after the static objects are gone.
struct Cache {
  std::mutex mutex;
  std::vector<MemoryBlock> idle;  // oldest first
};
Cache& cache() {
  static Cache* const only = new Cache;
  return *only;
}

// A child that is forked while another thread holds the lock would wait for it for ever.
#if defined(__unix__) || defined(__APPLE__)
const int at_fork = pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); },
                                   [] { cache().mutex.unlock(); });
#endif

size_t idle_bytes() {
  size_t total = 0;
  for (const MemoryBlock& block : cache().idle) total += block.size;
  return total;
}

// Whether a block may serve a call: a far larger one is left to larger calls.
bool serves(size_t size, size_t bytes) { return size >= bytes && size / 4 <= bytes; }

}  // namespace

MemoryBlock borrow_block(size_t bytes) {
  {
    std::lock_guard<std::mutex> lock(cache().mutex);
    std::vector<MemoryBlock>& idle = cache().idle;
    auto take_newest = [&](auto&& wanted) {  // likeliest to be in the caches
      const auto newest = std::find_if(idle.rbegin(), idle.rend(), wanted);
      if (newest == idle.rend()) return MemoryBlock{nullptr, 0};
      const MemoryBlock block = *newest;
      idle.erase(std::next(newest).base());
      return block;
    };
    const MemoryBlock block =
        take_newest([&](const MemoryBlock& each) { return serves(each.size, bytes); });
    if (block.memory != nullptr) return block;
    // The new block will serve whom a smaller one served: a backward its forward.
    std::free(
        take_newest([&](const MemoryBlock& each) { return serves(bytes, each.size); }).memory);
  }
  // Whole small pages: those of a huge page that is not full would be memory all the same.
  const size_t size = std::max((bytes + kPage - 1) / kPage * kPage, kPage);
  const bool huge = size >= kHugePage;
  void* memory = nullptr;
  if (posix_memalign(&memory, huge ? kHugePage : kPage, size) != 0) throw std::bad_alloc();
  if (huge) advise_huge_pages(memory, size);
  return {static_cast<char*>(memory), size};
}

void give_back(MemoryBlock block) {
  if (block.size > kKeepBytes) return std::free(block.memory);
  std::lock_guard<std::mutex> lock(cache().mutex);
  std::vector<MemoryBlock>& idle = cache().idle;
  idle.push_back(block);
  while (idle_bytes() > kKeepBytes) {
    std::free(idle.front().memory);
    idle.erase(idle.begin());
  }
}

Workspace::~Workspace() {
#if SSLK_GUARD_BYTES
  ASAN_UNPOISON_MEMORY_REGION(block_.memory, block_.size);
#endif
  give_back(block_);
}

void advise_huge_pages(void* memory, size_t bytes) {
#ifdef __linux__
  const uintptr_t end = reinterpret_cast<uintptr_t>(memory) + bytes;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) & ~(kHugePage - 1);
  if (begin + kHugePage <= end) {
    madvise(reinterpret_cast<void*>(begin), (end - begin) & ~(kHugePage - 1), MADV_HUGEPAGE);
  }
#else
  (void)memory, (void)bytes;
#endif
}

void release_workspaces() {
  std::lock_guard<std::mutex> lock(cache().mutex);
  for (const MemoryBlock& block : cache().idle) std::free(block.memory);
  cache().idle.clear();
}

}  // namespace sslk
