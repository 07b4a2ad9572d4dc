// Tiles of X Y^T in the registers of a block: 64 features of both at a time come into shared memory
// by cp.async, while the tensor cores are at the 64 before.
#pragma once

#include <cuda_pipeline.h>

#include "../device.h"
#include "../host_device.h"
#include "warp_matrix.h"

namespace sslk::device {

constexpr int kThreads = 128;
constexpr int kColumns = 64;  // of a tile: rows of Y
constexpr int kChunk = 64;    // features
constexpr int kPiece = 8;     // features that one copy brings

constexpr int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
SSLK_HOST_DEVICE inline uint32_t tiles_of(uint32_t rows) {
  return (rows + kColumns - 1) / kColumns;
}

// Row-major values of 16 bits.
struct Matrix {
  const uint16_t* values;
  uint32_t rows, features;
  bool aligned;  // rows begin at multiples of 16 bytes

  SSLK_HOST_DEVICE uint32_t chunks() const { return (features + kChunk - 1) / kChunk; }
  // Where a row begins, in values.
  __device__ __forceinline__ int64_t start(uint32_t row) const { return int64_t(row) * features; }
};

// Some rows of a matrix, in an order of their own: row i is its row number[i].
struct GatheredMatrix : Matrix {
  const uint32_t* number;

  __device__ __forceinline__ int64_t start(uint32_t row) const {
    return int64_t(number[row]) * features;
  }
};

// Where a piece of a row lies in a slot of shared memory. Eight rows, as ldmatrix takes them, lie
// in different banks.
__device__ __forceinline__ int slot_place(int row, int piece) {
  return row * kChunk + (piece ^ row % 8) * kPiece;
}

// Eight values of which the first `present` exist, the others are zero, by loads of one value each.
__device__ __forceinline__ uint4 piece_of(const uint16_t* from, int present) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = 2 * i < present ? from[2 * i] : 0;
    const uint32_t high = 2 * i + 1 < present ? from[2 * i + 1] : 0;
    words[i] = low | high << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// A chunk of kRows rows into a slot, by all threads; zeros outside of the matrix.
template <int kRows, class Rows>
__device__ __forceinline__ void fetch(uint16_t* slot, const Rows& from, uint32_t first_row,
                                      uint32_t first_feature) {
  constexpr int kPieces = kChunk / kPiece, kTurns = kRows * kPieces / kThreads;
  const auto each_piece = [&](int turn, auto&& copy) {
    const int number = turn * kThreads + int(threadIdx.x);
    const int row = number / kPieces, piece = number % kPieces;
    const uint32_t feature = first_feature + piece * kPiece;
    const bool inside = first_row + row < from.rows && feature < from.features;
    const uint16_t* const at = from.values + (inside ? from.start(first_row + row) + feature : 0);
    copy(slot + slot_place(row, piece), at, inside ? from.features - feature : 0);
  };
  if (from.aligned) {
#pragma unroll
    for (int i = 0; i < kTurns; ++i) {
      each_piece(i, [](uint16_t* to, const uint16_t* at, uint32_t left) {
        __pipeline_memcpy_async(to, at, 16, left ? 0 : 16);
      });
    }
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kTurns; ++i) {
    each_piece(i, [](uint16_t* to, const uint16_t* at, uint32_t left) {
      *reinterpret_cast<uint4*>(to) = piece_of(at, int(min(left, uint32_t(kPiece))));
    });
  }
}

// A tile [64 kRowTiles, 64] of float32, spread over four warps: a warp has 16 kRowTiles rows, a
// lane of them rows 8 h + lane / 4, and columns 8 i + 2 (lane % 4) and the next.
template <int kRowTiles>
struct Tile {
  static constexpr int kRows = 64 * kRowTiles;
  float of[kRowTiles][kColumns / 8][4];

  // The c-th of the lane's 16 columns in its row h.
  __device__ __forceinline__ float& at(int h, int c) { return of[h / 2][c / 2][h % 2 * 2 + c % 2]; }
  // f(value, h, c) for all values of this lane.
  template <class F>
  __device__ __forceinline__ void for_each(F&& f) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) f(of[i][n][e], 2 * i + e / 2, 2 * n + e % 2);
      }
    }
  }
};

// Which rows and columns of its tile a lane has.
template <int kRowTiles>
__device__ __forceinline__ uint32_t tile_row(int h) {
  return threadIdx.x / kWarp * 16 * kRowTiles + threadIdx.x % kWarp / 4 + 8 * h;
}
__device__ __forceinline__ uint32_t tile_column(int c) {
  return c / 2 * 8 + threadIdx.x % 4 * 2 + c % 2;
}

// What a block needs of X [first_row ...] and Y [first_column ...], in the order in which it needs
// it: for each of `tiles` tiles the chunks of both, whose products add up to the tile, then once
// more `again` chunks of Y from chunk `first_again` on, with which the tile is multiplied.
template <class T, int kRowTiles, class X = Matrix, class Y = Matrix>
class ChunkStream {
 public:
  static constexpr int kRows = 64 * kRowTiles;
  static constexpr int kSlotsOfX = 4 / kRowTiles;
  static constexpr int kValuesOfX = kRows * kChunk, kValuesOfY = kColumns * kChunk;
  static constexpr int kSharedBytes = (kSlotsOfX * kValuesOfX + 2 * kValuesOfY) * 2;

  __device__ __forceinline__ ChunkStream(uint16_t* shared, const X& x, const Y& y,
                                         uint32_t first_row, uint32_t first_column, uint32_t tiles,
                                         uint32_t first_again = 0, uint32_t again = 0)
      : x_(x),
        y_(y),
        slots_(shared),
        first_row_(first_row),
        first_column_(first_column),
        tiles_(tiles),
        first_again_(first_again),
        again_(again) {}

  // The next chunk is there when this returns, and the one after it on its way.
  __device__ __forceinline__ void advance() {
    __pipeline_wait_prior(0);
    __syncthreads();
    now_x_ = next_x_;
    now_y_ = next_y_;
    fetch_next();
  }

  // The tile that chunk after chunk of both sides adds up to.
  __device__ __forceinline__ void multiply_chunks(Tile<kRowTiles>& tile) {
    tile.for_each([](float& value, int, int) { value = 0; });
    // The first fetch of all takes a turn of its own: code of a fetch is long, and here once.
    const bool begins = tile_ == 0 && step_ == 0;
    for (int chunk = begins ? -1 : 0; chunk < int(x_.chunks()); ++chunk) {
      advance();
      if (chunk >= 0) add_products(tile, x_.features - chunk * kChunk);
    }
  }

  // sums[i] += P Y: P [16, 64] in registers, rounded; 8 of the chunk's features in each of `sums`.
  __device__ __forceinline__ void add_again(float (&sums)[kChunk / 8][4],
                                            const uint32_t (&p)[kColumns / 16][4],
                                            uint32_t width) const {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int k = 0; k < kColumns / 16; ++k) {
#pragma unroll
      for (int n = 0; n < kChunk / 16; ++n) {
        if (n * 16u >= width) break;
        uint32_t b[4];
        load_transposed(b, slots_ + now_y_ + slot_place(16 * k + lane % 16, 2 * n + lane / 16));
        multiply<T>(sums[2 * n], p[k], b[0], b[1]);
        multiply<T>(sums[2 * n + 1], p[k], b[2], b[3]);
      }
    }
  }

 private:
  __device__ __forceinline__ void fetch_next() {
    if (tile_ == tiles_) return;
    odd_ = !odd_;
    const bool once_more = step_ >= x_.chunks();
    const uint32_t chunk = once_more ? first_again_ + step_ - x_.chunks() : step_;
    next_y_ = kSlotsOfX * kValuesOfX + odd_ * kValuesOfY;
    fetch<kColumns>(slots_ + next_y_, y_, first_column_ + tile_ * kColumns, chunk * kChunk);
    if (!once_more) {
      const bool stays = x_.chunks() <= kSlotsOfX;  // one slot for each chunk, filled once
      next_x_ = (stays ? chunk : odd_) * kValuesOfX;
      if (!stays || tile_ == 0) fetch<kRows>(slots_ + next_x_, x_, first_row_, chunk * kChunk);
    }
    __pipeline_commit();
    if (++step_ == x_.chunks() + again_) {
      step_ = 0;
      ++tile_;
    }
  }

  // The chunk has so many features, or all.
  __device__ __forceinline__ void add_products(Tile<kRowTiles>& tile, uint32_t width) const {
    const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * 16 * kRowTiles;
#pragma unroll
    for (int k = 0; k < kChunk / 16; ++k) {
      if (k * 16u >= width) break;
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        load_matrices(a[i],
                      slots_ + now_x_ + slot_place(first + 16 * i + lane % 16, 2 * k + lane / 16));
      }
#pragma unroll
      for (int n = 0; n < kColumns / 16; ++n) {
        uint32_t b[4];
        load_matrices(b, slots_ + now_y_ +
                             slot_place(16 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < kRowTiles; ++i) {
          multiply<T>(tile.of[i][2 * n], a[i], b[0], b[1]);
          multiply<T>(tile.of[i][2 * n + 1], a[i], b[2], b[3]);
        }
      }
    }
  }

  const X& x_;
  const Y& y_;
  uint16_t* const slots_;
  const uint32_t first_row_, first_column_, tiles_, first_again_, again_;
  uint32_t now_x_ = 0, now_y_ = 0, next_x_ = 0, next_y_ = 0;  // from slots_ on
  uint32_t tile_ = 0, step_ = 0;                              // of the next fetch
  bool odd_ = false;
};

}  // namespace sslk::device
