// Every access of the kernel passes here: where it lies, whether it may, what it disturbs.
#pragma once

#include <string>
#include <vector>

#include "machine.h"

namespace emulated {

// Memory of the host that a launch may use.
struct Buffer {
  std::string name;
  uintptr_t begin, end;
  bool read_only;
};

enum class Space { kGlobal, kShared, kOwn };

struct Access {
  uintptr_t address;
  size_t bytes;
  bool writes, atomic;
  Space space;
  const void* where;
};

extern std::vector<Buffer> buffers;

// Ends the kernel for an access that is wrong.
[[noreturn]] void report(const char* kind, const Access& access, const std::string& detail);

void check_race(const Access& access);

void count(const Access& access);
void finish_counts();

}  // namespace emulated
