// The state of the machine, for the parts of the runtime.
#pragma once

#include <deque>
#include <string>
#include <unordered_set>
#include <vector>

#include "../include/emulated/machine.h"
#include "fibers.h"

namespace emulated {

enum class Waits : uint8_t { kNot, kForWarp, kForBlock, kDone };

// A cp.async: the bytes are fetched when it is issued and appear when it is waited for.
struct PendingCopy {
  char* to;
  size_t bytes;
  unsigned char data[16];
};

struct Thread {
  Fiber fiber;
  Waits waits = Waits::kNot;
  WarpOp op = WarpOp::kSync;
  uint32_t mask = 0;
  const void* where = nullptr;
  unsigned number = 0, lane = 0, warp = 0;
  uint3 index = {};
  std::vector<PendingCopy> open;                // not committed
  std::deque<std::vector<PendingCopy>> groups;  // committed
};

struct Warp {
  Slot slots[2][kWarp];
  unsigned rounds[kWarp];
  uint32_t epoch = 0;  // of __syncwarp
};

enum class Schedule { kForward, kReversed, kRandom };

struct Finding {
  std::string kind, detail;
  const void* where = nullptr;
};

struct Machine {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Thread* current = nullptr;
  dim3 grid, block;
  uint3 block_index = {};
  char* dynamic = nullptr;
  size_t dynamic_bytes = 0;
  unsigned thread_count = 0;
  uint32_t block_number = 0;  // counts the blocks of all launches
  uint32_t first_block = 0;   // of this launch
  uint32_t barrier = 0;       // counts the barriers of all blocks
  Schedule schedule = Schedule::kForward;
  void (*body)(const void*) = nullptr;
  const void* arguments = nullptr;
  std::unordered_set<uintptr_t> pending_words;  // of four bytes, that cp.async will write
  Finding finding;                              // the first; nothing runs after it

  bool failed() const { return !finding.kind.empty(); }
};

extern Machine machine;

// What the detector has to know.
void detector_ends_block();

}  // namespace emulated
