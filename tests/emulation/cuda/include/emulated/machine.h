// The machine that runs a CUDA kernel on the CPU: one fiber per thread, one block at a time.
//
// What a .cu file sees is in the other headers; the functions here are what those need of the
// runtime. Code of this folder is not instrumented: `where` is the address in the kernel that a
// finding is reported at.
#pragma once

#include <cstddef>
#include <cstdint>

#define EMULATED_UNSEEN __attribute__((no_sanitize("thread")))
#define EMULATED_CALL __attribute__((no_sanitize("thread"), noinline))
#define EMULATED_WHERE __builtin_return_address(0)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulated {

constexpr unsigned kWarp = 32;

// What all lanes of a mask do together.
enum class WarpOp : uint8_t { kSync, kShuffle, kVote, kMatrix, kLoadMatrix };

// What a lane gives to the others at such an operation.
struct Slot {
  uint64_t words[4];
};

// The thread that runs.
uint3 thread_index();
uint3 block_index();
uint3 block_size();
uint3 grid_size();
unsigned lane();

// Ends the kernel: `kind` is a word, `detail` what happened.
[[noreturn]] void fail(const char* kind, const char* detail, const void* where);

// __syncthreads.
void wait_for_block(const void* where);

// Gives a slot and waits until all lanes of the mask have given theirs; returns the slots of the 32
// lanes, which stay until the second operation after this one.
const Slot* exchange(WarpOp op, uint32_t mask, const Slot& mine, const void* where);

// Accesses that no instrumentation sees.
void read(const void* address, size_t bytes, const void* where);
void write(void* address, size_t bytes, const void* where);
void atomic(void* address, size_t bytes, const void* where);

// cp.async: what is copied appears at the wait.
void copy_async(void* to, const void* from, size_t bytes, size_t zeros, const void* where);
void commit_copies();
void wait_for_copies(size_t groups_left, const void* where);

void* dynamic_shared();

// What a function of the runtime that may fail has to return: see emulated_fail.
int error_asked_for();

// Calls body(arguments) in every thread of a grid; false when a block failed.
bool launch(dim3 grid, dim3 block, size_t dynamic_shared, void (*body)(const void*),
            const void* arguments);

}  // namespace emulated
