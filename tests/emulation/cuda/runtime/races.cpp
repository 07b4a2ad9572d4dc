// Races: for every byte the last write and the reads since, and whether a barrier came between.
#include <memory>
#include <unordered_map>

#include "detector.h"

namespace emulated {
namespace {

enum Spread : uint8_t { kLanes = 1, kWarps = 2, kBlocks = 4 };

// Who touched a byte, and when; `spread` says that others did too since the last barrier.
struct Stamp {
  uint32_t block = 0, barrier = 0, epoch = 0;
  uint16_t thread = 0;
  uint8_t spread = 0;
  bool atomic = false;
};

struct Byte {
  Stamp written, read;
};

constexpr uintptr_t kPage = 1024;

Byte& byte_at(uintptr_t address) {
  static std::unordered_map<uintptr_t, std::unique_ptr<Byte[]>> pages;
  static uintptr_t last_page = ~uintptr_t(0);
  static Byte* last = nullptr;
  if (address / kPage != last_page) {
    auto& page = pages[address / kPage];
    if (!page) page = std::make_unique<Byte[]>(kPage);
    last_page = address / kPage;
    last = page.get();
  }
  return last[address % kPage];
}

Stamp stamp_of(const Access& access) {
  const Thread& thread = *machine.current;
  return {machine.block_number,
          machine.barrier,
          machine.warps[thread.warp].epoch,
          uint16_t(thread.number),
          0,
          access.atomic};
}

// Whether a barrier lies between an earlier access and now.
bool ordered(const Stamp& before, const Stamp& now) {
  if (before.block != now.block) return false;
  if (before.barrier != now.barrier) return true;
  if ((before.spread & kWarps) || before.thread / kWarp != now.thread / kWarp) return false;
  if (before.epoch != now.epoch) return true;
  return !(before.spread & kLanes) && before.thread == now.thread;
}

// Whether an earlier access was in this launch, and in shared memory in this block.
bool counts(const Stamp& before, const Stamp& now, Space space) {
  return before.block >= machine.first_block &&
         (space == Space::kGlobal || before.block == now.block);
}

void note_read(Byte& byte, Stamp now, bool counted) {
  const Stamp& before = byte.read;
  if (counted && before.block == now.block && before.barrier == now.barrier) {
    if (before.thread / kWarp != now.thread / kWarp) {
      now.spread |= kWarps;
    } else if (before.thread != now.thread && before.epoch == now.epoch) {
      now.spread |= kLanes;
    }
    now.spread |= before.spread & (kLanes | kWarps);
  }
  if (counted && (before.block != now.block || (before.spread & kBlocks))) now.spread |= kBlocks;
  byte.read = now;
}

}  // namespace

void check_race(const Access& access) {
  const Stamp now = stamp_of(access);
  for (size_t i = 0; i < access.bytes; ++i) {
    Byte& byte = byte_at(access.address + i);
    const bool written = counts(byte.written, now, access.space);
    const bool read = counts(byte.read, now, access.space);
    const bool both_atomic = access.atomic && byte.written.atomic;
    const auto other = [](const Stamp& stamp) {
      return ", without a barrier after thread " + std::to_string(stamp.thread) + ",";
    };
    if (access.space == Space::kShared && !written && !(access.writes && !access.atomic)) {
      report("Unwritten", access, "a read before any write");
    }
    if (written && !both_atomic && !ordered(byte.written, now)) {
      report("Race", access,
             (access.writes ? "write and write" : "write and read") + other(byte.written));
    }
    if (access.writes && !access.atomic && read &&
        ((byte.read.spread & kBlocks) || !ordered(byte.read, now))) {
      report("Race", access, "read and write" + other(byte.read));
    }
    if (access.atomic && read && ((byte.read.spread & kBlocks) || !ordered(byte.read, now))) {
      report("Race", access, "read and atomic" + other(byte.read));
    }
    if (access.writes) {
      byte.written = now;
    } else {
      note_read(byte, now, read);
    }
  }
}

}  // namespace emulated
