#include "workspace.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sslk {
namespace {

struct Block {
  char* memory;
  size_t size;
};

constexpr size_t kHugePage = size_t(2) << 20;
constexpr size_t kKeepBytes = size_t(256) << 20;  // cached at most, beyond what is in use

std::mutex mutex;
std::vector<Block> idle;  // oldest first

size_t idle_bytes() {
  size_t total = 0;
  for (const Block& block : idle) total += block.size;
  return total;
}

}  // namespace

Workspace::Workspace(size_t bytes) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    auto fits = [&](const Block& block) { return block.size >= bytes && block.size / 4 <= bytes; };
    auto newest = std::find_if(idle.rbegin(), idle.rend(), fits);  // likeliest to be in the caches
    if (newest != idle.rend()) {
      block_ = cursor_ = newest->memory;
      size_ = newest->size;
      idle.erase(std::next(newest).base());
      return;
    }
  }
  const bool huge = bytes >= kHugePage;
  const size_t alignment = huge ? kHugePage : 4096;
  size_ = (bytes + alignment - 1) / alignment * alignment;
  block_ = cursor_ = static_cast<char*>(std::aligned_alloc(alignment, std::max(size_, alignment)));
  if (block_ == nullptr) throw std::bad_alloc();
  if (huge) advise_huge_pages(block_, size_);
}

Workspace::~Workspace() {
#if SSLK_GUARD_BYTES
  ASAN_UNPOISON_MEMORY_REGION(block_, size_);
#endif
  std::lock_guard<std::mutex> lock(mutex);
  idle.push_back({block_, size_});
  while (!idle.empty() && idle_bytes() > kKeepBytes) {
    std::free(idle.front().memory);
    idle.erase(idle.begin());
  }
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
  std::lock_guard<std::mutex> lock(mutex);
  for (const Block& block : idle) std::free(block.memory);
  idle.clear();
}

}  // namespace sslk
