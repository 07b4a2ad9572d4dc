// Blocks and barriers: which fiber runs next, and what threads may wait for.
#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace emulated {

Machine machine;

namespace {

constexpr const char* kOpNames[] = {"__syncwarp", "a shuffle", "a vote", "mma", "ldmatrix"};

const char* name_of(WarpOp op) { return kOpNames[int(op)]; }

void run_thread() {
  Fiber::arrived();
  Thread& thread = *machine.current;
  machine.body(machine.arguments);
  if (!thread.open.empty() || !thread.groups.empty()) {
    fail("PendingCopy", "a thread ends before its cp.async are waited for", nullptr);
  }
  thread.waits = Waits::kDone;
  thread.fiber.leave();
  std::abort();
}

void start_threads() {
  machine.pending_words.clear();
  const dim3 size = machine.block;
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    Thread& thread = machine.threads[i];
    thread.waits = Waits::kNot;
    thread.number = i;
    thread.lane = i % kWarp;
    thread.warp = i / kWarp;
    thread.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    thread.open.clear();
    thread.groups.clear();
    thread.fiber.start(run_thread);
  }
  for (Warp& warp : machine.warps) std::memset(warp.rounds, 0, sizeof(warp.rounds));
}

// 0 ... n - 1 in the order of the schedule.
std::vector<unsigned> ordered(unsigned n, std::mt19937& random) {
  std::vector<unsigned> order(n);
  std::iota(order.begin(), order.end(), 0u);
  if (machine.schedule == Schedule::kReversed) std::reverse(order.begin(), order.end());
  if (machine.schedule == Schedule::kRandom) std::shuffle(order.begin(), order.end(), random);
  return order;
}

// Runs the threads of a warp until none of them can go on.
bool run_warp(unsigned warp, std::mt19937& random) {
  const unsigned first = warp * kWarp;
  const unsigned lanes = std::min(kWarp, machine.thread_count - first);
  bool ran = false;
  for (bool again = true; again;) {
    again = false;
    for (unsigned lane : ordered(lanes, random)) {
      Thread& thread = machine.threads[first + lane];
      if (thread.waits != Waits::kNot) continue;
      machine.current = &thread;
      thread.fiber.enter();
      machine.current = nullptr;
      if (machine.failed()) return false;
      ran = again = true;
    }
  }
  return ran;
}

void stop(const char* kind, const std::string& detail, const void* where) {
  machine.finding = {kind, detail, where};
}

// Opens the barrier when every thread of the block stands at it.
bool release_barrier() {
  const Thread* waiting = nullptr;
  unsigned at_barrier = 0, done = 0;
  bool elsewhere = false;
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    const Thread& thread = machine.threads[i];
    done += thread.waits == Waits::kDone;
    if (thread.waits != Waits::kForBlock) continue;
    elsewhere |= waiting && waiting->where != thread.where;
    waiting = &thread;
    ++at_barrier;
  }
  if (!at_barrier || at_barrier + done != machine.thread_count) return false;
  if (done) {
    stop("Divergence",
         std::to_string(done) + " threads ended before a __syncthreads that others wait at",
         waiting->where);
    return false;
  }
  if (elsewhere) {
    stop("Divergence", "threads of a block wait at different __syncthreads", waiting->where);
    return false;
  }
  ++machine.barrier;
  for (unsigned i = 0; i < machine.thread_count; ++i) machine.threads[i].waits = Waits::kNot;
  return true;
}

void stop_for_deadlock() {
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    const Thread& thread = machine.threads[i];
    if (thread.waits != Waits::kForWarp) continue;
    return stop(
        "Divergence",
        "thread " + std::to_string(i) + " waits for lanes that never come to " + name_of(thread.op),
        thread.where);
  }
}

void run_block() {
  std::mt19937 random(machine.block_number);
  start_threads();
  const unsigned warps = unsigned(machine.warps.size());
  while (!machine.failed()) {
    bool progress = false;
    for (unsigned warp : ordered(warps, random)) {
      progress |= run_warp(warp, random);
      if (machine.failed()) return;
    }
    unsigned done = 0;
    for (unsigned i = 0; i < machine.thread_count; ++i) {
      done += machine.threads[i].waits == Waits::kDone;
    }
    if (done == machine.thread_count) return;
    progress |= release_barrier();
    if (!progress && !machine.failed()) stop_for_deadlock();
  }
}

// Dynamic shared memory of one block, full of NaNs; beyond its end nothing may be touched.
class DynamicMemory {
 public:
  explicit DynamicMemory(size_t bytes) : padded_((bytes + 127) / 128 * 128) {
    if (!bytes) return;
    machine.dynamic = static_cast<char*>(std::aligned_alloc(128, padded_));
    std::memset(machine.dynamic, 0xff, bytes);
#if defined(__SANITIZE_ADDRESS__)
    __asan_poison_memory_region(machine.dynamic + bytes, padded_ - bytes);
#endif
  }
  ~DynamicMemory() {
    if (!machine.dynamic) return;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(machine.dynamic, padded_);
#endif
    std::free(machine.dynamic);
    machine.dynamic = nullptr;
  }

 private:
  const size_t padded_;
};

}  // namespace

void fail(const char* kind, const char* detail, const void* where) {
  stop(kind, detail, where);
  machine.current->fiber.leave();
  std::abort();
}

void wait_for_block(const void* where) {
  Thread& thread = *machine.current;
  thread.waits = Waits::kForBlock;
  thread.where = where;
  thread.fiber.leave();
}

const Slot* exchange(WarpOp op, uint32_t mask, const Slot& mine, const void* where) {
  Thread& thread = *machine.current;
  Warp& warp = machine.warps[thread.warp];
  if (!(mask >> thread.lane & 1)) fail("Divergence", "a lane outside its own mask", where);
  const unsigned first = thread.warp * kWarp;
  const unsigned lanes = std::min(kWarp, machine.thread_count - first);
  // All lanes of a block's last warp may be asked for, however many there are.
  const uint32_t present = lanes == kWarp ? 0xffffffff : (1u << lanes) - 1;
  if (mask == 0xffffffff) mask = present;
  if (mask & ~present) fail("Divergence", "a mask with lanes beyond the block", where);

  Slot* const slots = warp.slots[warp.rounds[thread.lane]++ & 1];
  slots[thread.lane] = mine;
  thread.waits = Waits::kForWarp;
  thread.op = op;
  thread.mask = mask;
  thread.where = where;
  bool complete = true;
  for (unsigned i = 0; i < lanes; ++i) {
    if (!(mask >> i & 1)) continue;
    const Thread& other = machine.threads[first + i];
    if (other.waits == Waits::kDone) fail("Divergence", "a lane of the mask has ended", where);
    if (other.waits == Waits::kForWarp && (other.op != op || other.mask != mask)) {
      const std::string detail = std::string("lanes of one warp are at ") + name_of(op) + " and " +
                                 name_of(other.op) + ", or differ in their masks";
      fail("Divergence", detail.c_str(), where);
    }
    complete &= other.waits == Waits::kForWarp;
  }
  if (!complete) {
    thread.fiber.leave();
    return slots;
  }
  if (op == WarpOp::kSync) ++warp.epoch;
  for (unsigned i = 0; i < lanes; ++i) {
    if (mask >> i & 1) machine.threads[first + i].waits = Waits::kNot;
  }
  return slots;
}

bool launch(dim3 grid, dim3 block, size_t dynamic_shared, void (*body)(const void*),
            const void* arguments) {
  if (machine.failed()) return false;
  machine.grid = grid;
  machine.block = block;
  machine.thread_count = block.x * block.y * block.z;
  machine.dynamic_bytes = dynamic_shared;
  machine.body = body;
  machine.arguments = arguments;
  machine.first_block = machine.block_number + 1;
  if (machine.threads.size() < machine.thread_count) machine.threads.resize(machine.thread_count);
  machine.warps.assign((machine.thread_count + kWarp - 1) / kWarp, Warp());
  std::mt19937 random(1);
  for (unsigned number : ordered(grid.x * grid.y * grid.z, random)) {
    machine.block_index = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
    ++machine.block_number;
    ++machine.barrier;
    const DynamicMemory memory(dynamic_shared);
    run_block();
    detector_ends_block();
    if (machine.failed()) return false;
  }
  return true;
}

uint3 thread_index() { return machine.current->index; }
uint3 block_index() { return machine.block_index; }
uint3 block_size() { return {machine.block.x, machine.block.y, machine.block.z}; }
uint3 grid_size() { return {machine.grid.x, machine.grid.y, machine.grid.z}; }
unsigned lane() { return machine.current->lane; }
void* dynamic_shared() { return machine.dynamic; }

}  // namespace emulated
