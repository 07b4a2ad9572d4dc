// What run.py calls. Text is owned by the library and stays until the next call.
#include <dlfcn.h>

#include <sstream>
#include <utility>

#include "machine.h"
#if defined(EMULATED_DETECTOR)
#include "counters.h"
#endif

namespace emulated {
namespace {

std::string text;

// An address as addr2line wants it: in the library, and inside the instruction before it.
long offset(const void* where) {
  Dl_info info = {};
  if (!where || !dladdr(where, &info)) return 0;
  return long(static_cast<const char*>(where) - static_cast<const char*>(info.dli_fbase)) - 1;
}

int calls_that_work = 0, error_after = 0;

}  // namespace

int error_asked_for() {
  if (!error_after || calls_that_work-- > 0) return 0;
  return std::exchange(error_after, 0);
}

}  // namespace emulated

extern "C" {

// One call of the runtime fails with this error: that after so many which work.
void emulated_fail(int calls, int error) {
  emulated::calls_that_work = calls;
  emulated::error_after = error;
}

// Forgets what was before; schedule as in machine.h.
void emulated_begin(int schedule) {
  using namespace emulated;
  machine.finding = {};
  machine.schedule = static_cast<Schedule>(schedule);
#if defined(EMULATED_DETECTOR)
  buffers.clear();
  all_counts.clear();
#endif
}

void emulated_add_buffer([[maybe_unused]] const char* name, [[maybe_unused]] const void* data,
                         [[maybe_unused]] size_t bytes, [[maybe_unused]] int read_only) {
#if defined(EMULATED_DETECTOR)
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data);
  emulated::buffers.push_back({name, begin, begin + bytes, read_only != 0});
#endif
}

// "kind, offset, block, detail" of what ended the kernel, a line each, or nothing.
const char* emulated_finding() {
  using namespace emulated;
  std::ostringstream out;
  if (machine.failed()) {
    out << machine.finding.kind << '\n'
        << offset(machine.finding.where) << '\n'
        << machine.block_index.x << '\n'
        << machine.finding.detail;
  }
  text = out.str();
  return text.c_str();
}

// "offset, shared, writes, requests, bytes, moved, fewest" of each instruction, a line each.
const char* emulated_counts() {
  using namespace emulated;
  std::ostringstream out;
#if defined(EMULATED_DETECTOR)
  for (const auto& [site, counts] : all_counts) {
    out << offset(site.where) << ' ' << (site.space == Space::kShared) << ' ' << site.writes << ' '
        << counts.requests << ' ' << counts.bytes << ' ' << counts.moved << ' ' << counts.fewest
        << '\n';
  }
#endif
  text = out.str();
  return text.c_str();
}

}  // extern "C"
