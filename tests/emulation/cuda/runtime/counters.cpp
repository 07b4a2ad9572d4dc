// Warp requests: the k-th time that lanes of a warp pass one instruction is one request. Of global
// memory the 32-byte sectors are counted, of shared memory the wavefronts: rounds in which each of
// the 32 banks of four bytes gives one word.
#include "counters.h"

#include <algorithm>
#include <vector>

namespace emulated {

std::map<Site, Counts> all_counts;

namespace {

struct Request {
  uint32_t lanes = 0;
  uint8_t bytes = 0;
  uintptr_t addresses[kWarp];
};

using Sequence = std::vector<Request>;  // by the how-manieth time

struct WarpRequests {
  std::map<Site, Sequence> requests;
  std::map<Site, uint32_t> passed[kWarp];
};

std::vector<WarpRequests> warps;

size_t distinct(std::vector<uintptr_t>& values) {
  std::sort(values.begin(), values.end());
  return size_t(std::unique(values.begin(), values.end()) - values.begin());
}

template <class F>
void for_each_lane(const Request& request, F&& f) {
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (request.lanes >> lane & 1) f(lane, request.addresses[lane]);
  }
}

void count_sectors(const Request& request, Counts& counts) {
  constexpr uintptr_t kSector = 32;
  std::vector<uintptr_t> sectors, addresses;
  for_each_lane(request, [&](unsigned, uintptr_t at) {
    sectors.push_back(at / kSector);
    sectors.push_back((at + request.bytes - 1) / kSector);
    addresses.push_back(at);
  });
  counts.moved += distinct(sectors);
  counts.fewest += (distinct(addresses) * request.bytes + kSector - 1) / kSector;
}

// Lanes with 16 bytes go eight at a time, with 8 bytes sixteen.
void count_wavefronts(const Request& request, Counts& counts) {
  const unsigned together = request.bytes == 16 ? 8 : request.bytes == 8 ? 16 : kWarp;
  for (unsigned first = 0; first < kWarp; first += together) {
    std::vector<uintptr_t> banks[32];
    for_each_lane(request, [&](unsigned lane, uintptr_t at) {
      if (lane / together != first / together) return;
      for (uintptr_t word = at / 4; word <= (at + request.bytes - 1) / 4; ++word) {
        banks[word % 32].push_back(word);
      }
    });
    size_t most = 0;
    for (auto& words : banks) most = std::max(most, distinct(words));
    counts.moved += most;
    counts.fewest += most > 0;
  }
}

}  // namespace

void count(const Access& access) {
  if (access.bytes > 16) return;
  const Thread& thread = *machine.current;
  warps.resize(machine.warps.size());
  const Site site = {access.where, access.space, access.writes};
  WarpRequests& warp = warps[thread.warp];
  const uint32_t time = warp.passed[thread.lane][site]++;
  Sequence& sequence = warp.requests[site];
  if (sequence.size() <= time) sequence.resize(time + 1);
  Request& request = sequence[time];
  request.lanes |= 1u << thread.lane;
  request.bytes = uint8_t(access.bytes);
  request.addresses[thread.lane] = access.address;
}

void finish_counts() {
  for (const WarpRequests& warp : warps) {
    for (const auto& [site, sequence] : warp.requests) {
      Counts& counts = all_counts[site];
      for (const Request& request : sequence) {
        ++counts.requests;
        counts.bytes += uint64_t(__builtin_popcount(request.lanes)) * request.bytes;
        if (site.space == Space::kShared) {
          count_wavefronts(request, counts);
        } else {
          count_sectors(request, counts);
        }
      }
    }
  }
  warps.clear();
}

}  // namespace emulated
