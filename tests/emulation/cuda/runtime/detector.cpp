// Bounds. The compiler's thread sanitizer calls us at every load and store of the kernel; its own
// runtime is not linked.
#include "detector.h"

#include <link.h>

#include <cstdio>

namespace emulated {

std::vector<Buffer> buffers;

namespace {

// The writable and the other memory of this library, which has the kernel: `__shared__` variables,
// and constants.
struct Segments {
  uintptr_t writable[2] = {}, constant[2] = {};

  Segments() {
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* self) {
          static_cast<Segments*>(self)->take(*info);
          return 0;
        },
        this);
  }

 private:
  void take(const dl_phdr_info& info) {
    const uintptr_t mine = reinterpret_cast<uintptr_t>(&machine);
    bool ours = false;
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const uintptr_t begin = info.dlpi_addr + info.dlpi_phdr[i].p_vaddr;
      ours |= info.dlpi_phdr[i].p_type == PT_LOAD && mine >= begin &&
              mine < begin + info.dlpi_phdr[i].p_memsz;
    }
    if (!ours) return;
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const auto& segment = info.dlpi_phdr[i];
      if (segment.p_type != PT_LOAD) continue;
      const uintptr_t begin = info.dlpi_addr + segment.p_vaddr, end = begin + segment.p_memsz;
      uintptr_t (&range)[2] = segment.p_flags & PF_W ? writable : constant;
      range[0] = range[0] ? std::min(range[0], begin) : begin;
      range[1] = std::max(range[1], end);
    }
  }
};

bool within(const uintptr_t (&range)[2], uintptr_t address) {
  return address >= range[0] && address < range[1];
}

const Buffer* buffer_of(uintptr_t begin, uintptr_t end) {
  for (const Buffer& buffer : buffers) {
    if (begin >= buffer.begin && end <= buffer.end) return &buffer;
  }
  return nullptr;
}

// Where an access lies; an access that may not be is reported.
Space space_of(const Access& access) {
  static const Segments segments;
  const uintptr_t begin = access.address, end = begin + access.bytes;
  if (machine.current->fiber.has(reinterpret_cast<const void*>(begin))) return Space::kOwn;
  const uintptr_t dynamic = reinterpret_cast<uintptr_t>(machine.dynamic);
  if (dynamic && begin >= dynamic && end <= dynamic + machine.dynamic_bytes) return Space::kShared;
  if (const Buffer* buffer = buffer_of(begin, end)) {
    if (access.writes && buffer->read_only) report("ReadOnly", access, "a write to an input");
    return Space::kGlobal;
  }
  if (within(segments.writable, begin)) return Space::kShared;
  if (!access.writes && within(segments.constant, begin)) return Space::kOwn;
  report("OutOfBounds", access, access.writes ? "a write" : "a read");
}

void check_pending(const Access& access) {
  if (machine.pending_words.empty()) return;
  for (uintptr_t word = access.address / 4; word <= (access.address + access.bytes - 1) / 4;
       ++word) {
    if (machine.pending_words.count(word)) {
      report("PendingCopy", access, "between a cp.async and the wait for it,");
    }
  }
}

void check(uintptr_t address, size_t bytes, bool writes, bool atomic, const void* where) {
  if (!machine.current) return;  // the host's part of the file
  Access access = {address, bytes, writes, atomic, Space::kGlobal, where};
  access.space = space_of(access);
  if (access.space == Space::kOwn) return;
  if (bytes <= 16 && address % bytes) report("Misaligned", access, "an access");
  check_pending(access);
  check_race(access);
  count(access);
}

// "out + 16" for an address in a buffer or near one.
std::string described(const Access& access) {
  const auto after = [](const std::string& name, int64_t offset) {
    return name + (offset < 0 ? " - " : " + ") + std::to_string(std::abs(offset));
  };
  const uintptr_t dynamic = reinterpret_cast<uintptr_t>(machine.dynamic);
  const uintptr_t at = access.address;
  if (access.space == Space::kShared && !(dynamic && at >= dynamic)) return "shared memory";
  const Buffer* nearest = nullptr;
  const auto distance = [&](uintptr_t begin, uintptr_t end) {
    return at < begin ? begin - at : at >= end ? at - end + 1 : 0;
  };
  for (const Buffer& buffer : buffers) {
    if (!nearest || distance(buffer.begin, buffer.end) < distance(nearest->begin, nearest->end)) {
      nearest = &buffer;
    }
  }
  const uintptr_t end = dynamic + machine.dynamic_bytes;
  if (dynamic && (!nearest || distance(dynamic, end) <= distance(nearest->begin, nearest->end))) {
    return after("dynamic shared memory", int64_t(at - dynamic));
  }
  return nearest ? after(nearest->name, int64_t(at - nearest->begin)) : "memory that is no buffer";
}

}  // namespace

void report(const char* kind, const Access& access, const std::string& detail) {
  const std::string text =
      detail + " of " + std::to_string(access.bytes) + " bytes at " + described(access);
  fail(kind, text.c_str(), access.where);
}

void detector_ends_block() { finish_counts(); }

void read(const void* address, size_t bytes, const void* where) {
  check(reinterpret_cast<uintptr_t>(address), bytes, false, false, where);
}
void write(void* address, size_t bytes, const void* where) {
  check(reinterpret_cast<uintptr_t>(address), bytes, true, false, where);
}
void atomic(void* address, size_t bytes, const void* where) {
  check(reinterpret_cast<uintptr_t>(address), bytes, true, true, where);
}

}  // namespace emulated

// ---- What -fsanitize=thread calls ---------------------------------------------------------------

#define EMULATED_ACCESS(name, function, bytes) \
  extern "C" void name(void* address) { emulated::function(address, bytes, EMULATED_WHERE); }
#define EMULATED_ACCESSES(bytes)                              \
  EMULATED_ACCESS(__tsan_read##bytes, read, bytes)            \
  EMULATED_ACCESS(__tsan_write##bytes, write, bytes)          \
  EMULATED_ACCESS(__tsan_volatile_read##bytes, read, bytes)   \
  EMULATED_ACCESS(__tsan_volatile_write##bytes, write, bytes) \
  EMULATED_ACCESS(__tsan_unaligned_read##bytes, read, bytes)  \
  EMULATED_ACCESS(__tsan_unaligned_write##bytes, write, bytes)
EMULATED_ACCESSES(1)
EMULATED_ACCESSES(2)
EMULATED_ACCESSES(4)
EMULATED_ACCESSES(8)
EMULATED_ACCESSES(16)

extern "C" {
void __tsan_read_range(void* address, size_t bytes) {
  emulated::read(address, bytes, EMULATED_WHERE);
}
void __tsan_write_range(void* address, size_t bytes) {
  emulated::write(address, bytes, EMULATED_WHERE);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
}
