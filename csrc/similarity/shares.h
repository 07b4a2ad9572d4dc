// How blocks of a launch share a matrix of pairs.
#pragma once

#include <algorithm>

#include "device_stream.h"

namespace sslk::device {

// A block owns rows and walks over `tiles_each` tiles of columns. Blocks that own the same rows
// have a line each in what they leave behind.
struct Shares {
  int64_t blocks, lines, tiles_each;

  // `slices`: how many blocks have the same rows and columns.
  Shares(int64_t rows, int64_t columns, int64_t rows_each, int64_t slices = 1) {
    constexpr int64_t kBlocks = 512, kFewestTiles = 4;  // a wave or more on any GPU
    const int64_t tiles = divided_up(columns, kColumns);
    blocks = divided_up(rows, rows_each);
    tiles_each = std::max(kFewestTiles, divided_up(tiles * blocks * slices, kBlocks));
    lines = std::max<int64_t>(1, divided_up(tiles, tiles_each));
  }
};

}  // namespace sslk::device
