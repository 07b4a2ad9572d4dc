// cp.async: the source is read at once, the target written at the wait.
#include <cstring>

#include "machine.h"

namespace emulated {
namespace {

template <class F>
void for_each_word(const PendingCopy& copy, F&& f) {
  for (size_t i = 0; i < copy.bytes; i += 4) f((reinterpret_cast<uintptr_t>(copy.to) + i) / 4);
}

}  // namespace

void copy_async(void* to, const void* from, size_t bytes, size_t zeros, const void* where) {
  const auto misaligned = [&](const void* p) { return reinterpret_cast<uintptr_t>(p) % bytes; };
  if (bytes != 4 && bytes != 8 && bytes != 16) {
    fail("Misaligned", "a cp.async of other than 4, 8 or 16 bytes", where);
  }
  if (misaligned(to) || misaligned(from)) {
    fail("Misaligned", "a cp.async that is not aligned to what it copies", where);
  }
  PendingCopy copy = {static_cast<char*>(to), bytes, {}};
  if (zeros < bytes) {
    read(from, bytes - zeros, where);
    std::memcpy(copy.data, from, bytes - zeros);
  }
  write(to, bytes, where);
  std::memset(to, 0xff, bytes);
  for_each_word(copy, [](uintptr_t word) { machine.pending_words.insert(word); });
  machine.current->open.push_back(copy);
}

void commit_copies() {
  Thread& thread = *machine.current;
  thread.groups.push_back(std::move(thread.open));
  thread.open.clear();
}

void wait_for_copies(size_t groups_left, const void* where) {
  auto& groups = machine.current->groups;
  while (groups.size() > groups_left) {
    const std::vector<PendingCopy> group = std::move(groups.front());
    groups.pop_front();
    for (const PendingCopy& copy : group) {
      for_each_word(copy, [](uintptr_t word) { machine.pending_words.erase(word); });
      write(copy.to, copy.bytes, where);
      std::memcpy(copy.to, copy.data, copy.bytes);
    }
  }
}

}  // namespace emulated
