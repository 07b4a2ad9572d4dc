// Rows of a crop in shared memory, on their way into the rows of a view: each is read once, in
// whole sectors, wherever the crop begins.
#pragma once

#include "device_sample.h"

namespace sslk::augment {

// S is the type of the images' pixels. Of the channels of a row, those that lie apart are lines of
// their own.
template <class T, class S, int kChannels>
class StagedRows {
 public:
  __device__ StagedRows(const DeviceCall<T, kChannels>& call, const Box& crop, const S* first,
                        char* memory)
      : call_(call),
        layout_(call.image_layout),
        memory_(memory),
        first_(reinterpret_cast<uintptr_t>(first)) {
    const int64_t others = apart() ? 0 : (kChannels - 1) * layout_.channel;
    bytes_ = int((crop.width - 1) * layout_.column + 1 + others) * int(sizeof(S));
    pitch_ = (bytes_ + 2 * kSector - 2) / kSector * kSector;
    slots_ = int(call.stage_bytes / (lines() * pitch_));
  }

  // How many rows fit.
  __device__ int slots() const { return slots_; }

  // Makes [first, end) the rows that there are; both may only grow. All threads of the block call
  // it, between two barriers.
  __device__ void load(int first, int end) {
    if (first >= loaded_) loaded_ = first;
    const int of_line = pitch_ / kChunk, of_row = lines() * of_line;
    const int count = (end - loaded_) * of_row;
    for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) {
      const int row = loaded_ + i / of_row, line = i % of_row / of_line;
      load_chunk(address(row, line), memory_ + place(row % slots_, line), i % of_line * kChunk);
    }
    loaded_ = end;
    base_ = first;
    base_slot_ = first % slots_;
  }

  // The first pixel of a row's channel.
  __device__ const S* row(int i, int c) const {
    int slot = base_slot_ + (i - base_);
    if (slot >= slots_) slot -= slots_;
    const int line = apart() ? c : 0;
    const char* const at = memory_ + place(slot, line) + address(i, line) % kSector;
    return reinterpret_cast<const S*>(at) + (apart() ? 0 : c * layout_.channel);
  }

 private:
  static constexpr int kSector = 32, kChunk = 16;

  __device__ bool apart() const { return layout_.column == 1; }
  __device__ int lines() const { return apart() ? kChannels : 1; }
  __device__ int place(int slot, int line) const { return (slot * lines() + line) * pitch_; }
  __device__ uintptr_t address(int row, int line) const {
    return first_ + uintptr_t((row * layout_.row + line * layout_.channel) * int64_t(sizeof(S)));
  }

  // The chunk at an offset in a line, which lies in memory_ as it lies in its sectors. Lanes beyond
  // the end go along, to where others are.
  __device__ void load_chunk(uintptr_t line, char* to, int offset) const {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(call_.images);
    const uintptr_t end = begin + uintptr_t(call_.batch * layout_.image * int64_t(sizeof(S)));
    const uintptr_t line_end = line + uintptr_t(bytes_), last = (line_end - 1) / kChunk * kChunk;
    const uintptr_t wanted = line / kSector * kSector + uintptr_t(offset);
    const uintptr_t from = wanted < last ? wanted : last;
    if (from >= begin && from + kChunk <= end) {
      const uint4 chunk = *reinterpret_cast<const uint4*>(from);
      if (wanted == from) *reinterpret_cast<uint4*>(to + offset) = chunk;
      return;
    }
    // Where the images begin or end.
    for (int i = 0; i < kChunk; i += int(sizeof(S))) {
      const uintptr_t at = wanted + uintptr_t(i);
      if (at >= line && at < line_end) {
        *reinterpret_cast<S*>(to + offset + i) = *reinterpret_cast<const S*>(at);
      }
    }
  }

  const DeviceCall<T, kChannels>& call_;
  const Layout& layout_;
  char* const memory_;
  const uintptr_t first_;  // the crop's first pixel
  int bytes_, pitch_;      // of a line
  int slots_;
  int loaded_ = 0;                // rows below this one have been read
  int base_ = 0, base_slot_ = 0;  // the first row that there is
};

}  // namespace sslk::augment
