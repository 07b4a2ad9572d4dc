// How blocks of a launch share a matrix of pairs.
#pragma once

#include <algorithm>

#include "device_stream.h"

namespace sslk::device {

// A block owns rows and walks over `tiles_each` tiles of columns. Blocks that own the same rows
// have a line each in what they leave behind.
struct Shares {
  static constexpr int64_t kBlocks = 512, kFewestTiles = 4;  // a wave or more on any GPU

  int64_t blocks, lines, tiles_each;

  // `slices`: how many blocks have the same rows and columns.
  constexpr Shares(int64_t rows, int64_t columns, int64_t rows_each, int64_t slices = 1) {
    const int64_t tiles = divided_up(columns, kColumns);
    blocks = divided_up(rows, rows_each);
    tiles_each = std::max(int64_t{kFewestTiles}, divided_up(tiles * blocks * slices, kBlocks));
    lines = std::max<int64_t>(1, divided_up(tiles, tiles_each));
  }

  // The most lines that there are for any number of columns up to these.
  static constexpr int64_t most_lines(int64_t rows, int64_t columns, int64_t rows_each,
                                      int64_t slices) {
    const int64_t taken = std::max<int64_t>(1, divided_up(rows, rows_each)) * slices;
    const int64_t longest = divided_up(divided_up(columns, kColumns), kFewestTiles);
    return std::max<int64_t>(1, std::min(longest, divided_up(kBlocks, taken)));
  }
  // The most blocks, of a slice with all their lines, for any number of rows up to these.
  static constexpr int64_t most_blocks(int64_t rows, int64_t columns, int64_t rows_each,
                                       int64_t slices) {
    const int64_t blocks = divided_up(rows, rows_each);
    const int64_t longest = divided_up(divided_up(columns, kColumns), kFewestTiles);
    return std::min(blocks * std::max<int64_t>(1, longest), kBlocks / slices + blocks);
  }
};

// What one block of a launch has of that.
struct Portion {
  uint32_t block, line, first_tile, tiles;

  __device__ __forceinline__ Portion(const Shares& shares, uint32_t number, uint32_t columns)
      : block(number % uint32_t(shares.blocks)),
        line(number / uint32_t(shares.blocks)),
        first_tile(line * uint32_t(shares.tiles_each)),
        tiles(min(uint32_t(shares.tiles_each), tiles_of(columns) - first_tile)) {}
};

}  // namespace sslk::device
