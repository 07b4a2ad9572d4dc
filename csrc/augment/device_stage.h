// Rows of a crop in shared memory, on their way into the rows of a view: each is read once, in
// whole sectors, wherever the crop begins.
#pragma once

#include "device_sample.h"

namespace sslk::augment {

// S is the type of the images' pixels. Of the channels of a row, those that lie apart are lines of
// their own.
//
// Where a sector or more is between rows, each has a slot. Where it is less, no sector there is
// without a pixel of the crop, and rows share sectors: narrow rows are read together with what is
// between them, into a ring for each line, whose beginning is repeated behind its end.
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
    const int pitch = in_sectors(bytes_), stage = int(call.stage_bytes);
    const int64_t between = layout_.row * int64_t(sizeof(S)) - bytes_;
    joined_ = bytes_ <= kNarrow && between >= 0 && between < kSector;
    if (joined_) {
      step_ = bytes_ + int(between);
      repeated_ = pitch;
      of_line_ = stage / lines() / kSector * kSector;
      end_ = of_line_ - repeated_;
      slots_ = end_ < pitch ? 0 : 1 + (end_ - pitch) / step_;
    } else {
      step_ = lines() * pitch;
      repeated_ = 0;
      of_line_ = pitch;
      slots_ = stage / step_;
      end_ = slots_ * step_;
    }
  }

  // How many rows fit.
  __device__ int slots() const { return slots_; }

  // Makes [first, end) the rows that there are; both may only grow. All threads of the block call
  // it, between two barriers.
  __device__ void load(int first, int end) {
    if (first >= loaded_) loaded_ = first;
    begin_ = (begin_ + (first - base_) * step_) % end_;
    base_ = first;
    const int rows = end - loaded_, runs = joined_ && rows > 0 ? 1 : rows;
    const int bytes = joined_ ? (rows - 1) * step_ + bytes_ : bytes_;
    const int of_line = in_sectors(bytes) / kChunk, of_run = lines() * of_line;
    for (int i = int(threadIdx.x); i < runs * of_run; i += int(blockDim.x)) {
      const int row = loaded_ + i / of_run, line = i % of_run / of_line;
      load_chunk(row, line, bytes, i % of_line * kChunk);
    }
    loaded_ = end;
  }

  // The first pixel of a row's channel.
  __device__ const S* row(int i, int c) const {
    const int line = apart() ? c : 0;
    const char* const at = memory_ + line * of_line_ + place(i, line);
    return reinterpret_cast<const S*>(at) + (apart() ? 0 : c * layout_.channel);
  }

 private:
  static constexpr int kSector = 32, kChunk = 16;
  // Bytes. Of wider rows no more than one sector in 17 is shared.
  static constexpr int kNarrow = 512;

  // At most so many bytes have the sectors that hold some.
  static __device__ int in_sectors(int bytes) {
    return (bytes + 2 * kSector - 2) / kSector * kSector;
  }
  __device__ bool apart() const { return layout_.column == 1; }
  __device__ int lines() const { return apart() ? kChannels : 1; }
  __device__ uintptr_t address(int row, int line) const {
    return first_ + uintptr_t((row * layout_.row + line * layout_.channel) * int64_t(sizeof(S)));
  }
  // Of a row that there is, in its line's part of memory_, as far from a sector's beginning as in
  // the image.
  __device__ int place(int row, int line) const {
    int at = begin_ + (row - base_) * step_;
    if (at >= end_) at -= end_;
    return at + int(address(joined_ ? 0 : row, line) % kSector);
  }

  // A chunk of the bytes that begin with a row: so far behind the beginning of its sector. Lanes
  // beyond the end go along, to where others are.
  __device__ void load_chunk(int row, int line, int bytes, int offset) const {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(call_.images);
    const uintptr_t end = begin + uintptr_t(call_.batch * layout_.image * int64_t(sizeof(S)));
    const uintptr_t first = address(row, line), last = first + uintptr_t(bytes) - 1;
    const uintptr_t wanted = first / kSector * kSector + uintptr_t(offset);
    const uintptr_t from = wanted < last ? wanted : last / kChunk * kChunk;
    int at = place(row, line) / kSector * kSector + offset;
    if (at >= end_) at -= end_;
    char* const to = memory_ + line * of_line_ + at;
    if (from >= begin && from + kChunk <= end) {
      const uint4 chunk = *reinterpret_cast<const uint4*>(from);
      if (wanted == from) {
        *reinterpret_cast<uint4*>(to) = chunk;
        if (at < repeated_) *reinterpret_cast<uint4*>(to + end_) = chunk;
      }
      return;
    }
    // Where the images begin or end.
    for (int i = 0; i < kChunk; i += int(sizeof(S))) {
      const uintptr_t there = wanted + uintptr_t(i);
      if (there < first || there > last) continue;
      const S value = *reinterpret_cast<const S*>(there);
      *reinterpret_cast<S*>(to + i) = value;
      if (at < repeated_) *reinterpret_cast<S*>(to + end_ + i) = value;
    }
  }

  const DeviceCall<T, kChannels>& call_;
  const Layout& layout_;
  char* const memory_;
  const uintptr_t first_;  // the crop's first pixel
  int bytes_;              // of a line
  bool joined_;
  int slots_;
  int step_, end_, of_line_;  // in memory_: from row to row, to where it begins anew, of a line
  int repeated_;              // bytes
  int loaded_ = 0;            // rows below this one have been read
  int base_ = 0, begin_ = 0;  // the first row that there is, where
};

}  // namespace sslk::augment
