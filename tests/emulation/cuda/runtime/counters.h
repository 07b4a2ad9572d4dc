#pragma once

#include <compare>
#include <map>

#include "detector.h"

namespace emulated {

// An instruction of the kernel.
struct Site {
  const void* where;
  Space space;
  bool writes;
  auto operator<=>(const Site&) const = default;
};

// Sectors or wavefronts, and how few would do.
struct Counts {
  uint64_t requests = 0, bytes = 0, moved = 0, fewest = 0;
};

extern std::map<Site, Counts> all_counts;

}  // namespace emulated
