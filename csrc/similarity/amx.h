// The AMX tile unit: registers, products of split bfloat16 operands, and the transposes they need.
//
// Conventions. A "tile" is one register's worth of memory: 16 rows of 64 bytes, 1 KiB.
//   A form: 16 rows x 32 k, bfloat16, row-major.
//   B form: 16 rows of k pairs (2 x bfloat16) x 16 columns: the 4-byte transpose of an A tile.
//   C form: 16 x 16 float32.
// A float32 operand is a sum of `Splits` bfloat16 parts, highest first, stored tile after tile.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "../simd.h"

namespace sslk::amx {

using bf16 = uint16_t;
constexpr int kTileElements = 512;  // bfloat16 in an A or B tile
constexpr int kCTileElements = 256;

// Tile registers stay configured for the lifetime of this object; each thread needs its own.
class TileSession {
 public:
  TileSession() {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t column_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    static const Config config;
    asm volatile("" ::"r"(&config) : "memory");  // GCC 12 drops the stores to the struct without it
    _tile_loadconfig(&config);
  }
  ~TileSession() { _tile_release(); }
  TileSession(const TileSession&) = delete;
  TileSession& operator=(const TileSession&) = delete;
};

// Two tiles of one operand, `first` and the one next to it, walked along k in steps of `step`.
struct Operand {
  const bf16* first;
  const bf16* second;
  int64_t step;
};

// C0..C3 (2 x 2 tiles in registers 0-3) += A * B over `depth` tiles of k. After each tile product
// slot() runs: a slice of vector work that executes while the tile unit is busy.
template <int Splits, class Slot>
SSLK_INLINE void multiply(const Operand& a, const Operand& b, int depth, Slot&& slot) {
  auto load_a = [&](int64_t at, int part) {
    _tile_loadd(4, a.first + at + part * kTileElements, 64);
    _tile_loadd(5, a.second + at + part * kTileElements, 64);
  };
  auto load_b = [&](int64_t at, int part) {
    _tile_loadd(6, b.first + at + part * kTileElements, 64);
    _tile_loadd(7, b.second + at + part * kTileElements, 64);
  };
  auto product = [&]() {
    _tile_dpbf16ps(0, 4, 6);
    slot();
    _tile_dpbf16ps(1, 4, 7);
    slot();
    _tile_dpbf16ps(2, 5, 6);
    slot();
    _tile_dpbf16ps(3, 5, 7);
    slot();
  };
  for (int k = 0; k < depth; ++k) {
    const int64_t ka = k * a.step, kb = k * b.step;
    if constexpr (Splits == 3) {  // the six largest of nine; A, the one in L1, is loaded twice
      load_a(ka, 0), load_b(kb, 2), product();
      load_b(kb, 1), product();
      load_a(ka, 1), product();
      load_b(kb, 0), product();
      load_a(ka, 2), product();
      load_a(ka, 0), product();
    } else if constexpr (Splits == 2) {  // the three largest of four
      load_a(ka, 1), load_b(kb, 0), product();
      load_a(ka, 0), product();
      load_b(kb, 1), product();
    } else {
      _tile_loadd(4, a.first + ka, 64);
      _tile_loadd(6, b.first + kb, 64);
      _tile_dpbf16ps(0, 4, 6);
      slot();
      _tile_loadd(7, b.second + kb, 64);
      _tile_dpbf16ps(1, 4, 7);
      slot();
      _tile_loadd(5, a.second + ka, 64);
      _tile_dpbf16ps(2, 5, 6);
      slot();
      _tile_dpbf16ps(3, 5, 7);
      slot();
    }
  }
}

SSLK_INLINE void zero_accumulators() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Accumulators from and to memory: row tiles `row_step` elements apart, column tiles `column_step`.
SSLK_INLINE void load_accumulators(const float* c, int64_t row_step, int64_t column_step,
                                   int stride) {
  _tile_loadd(0, c, stride);
  _tile_loadd(1, c + column_step, stride);
  _tile_loadd(2, c + row_step, stride);
  _tile_loadd(3, c + row_step + column_step, stride);
}
template <class T>
SSLK_INLINE void store_accumulators(T* c, int64_t row_step, int64_t column_step, int stride) {
  _tile_stored(0, c, stride);
  _tile_stored(1, c + column_step, stride);
  _tile_stored(2, c + row_step, stride);
  _tile_stored(3, c + row_step + column_step, stride);
}

// 16 x 16 transpose of 4-byte elements. Pieces of 16 bytes go to their lanes as they are loaded,
// which leaves two of four rounds to the one port that shuffles.
inline void transpose(const void* source, void* target) {
  const char* from = static_cast<const char*>(source);
  char* to = static_cast<char*>(target);
  for (int c = 0; c < 4; ++c) {
    __m512i r[4], s[4];
    for (int i = 0; i < 4; ++i) {  // columns 4 c.. of rows i, i + 4, i + 8, i + 12
      auto piece = [&](int row) {
        return _mm_load_si128(reinterpret_cast<const __m128i*>(from + 64 * row + 16 * c));
      };
      r[i] = _mm512_castsi128_si512(piece(i));
      r[i] = _mm512_mask_broadcast_i32x4(r[i], 0x00f0, piece(i + 4));
      r[i] = _mm512_mask_broadcast_i32x4(r[i], 0x0f00, piece(i + 8));
      r[i] = _mm512_mask_broadcast_i32x4(r[i], 0xf000, piece(i + 12));
    }
    for (int i = 0; i < 4; i += 2) {
      s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
      s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    _mm512_store_si512(to + 64 * (4 * c), _mm512_unpacklo_epi64(s[0], s[2]));
    _mm512_store_si512(to + 64 * (4 * c + 1), _mm512_unpackhi_epi64(s[0], s[2]));
    _mm512_store_si512(to + 64 * (4 * c + 2), _mm512_unpacklo_epi64(s[1], s[3]));
    _mm512_store_si512(to + 64 * (4 * c + 3), _mm512_unpackhi_epi64(s[1], s[3]));
  }
}

// float32 rounded to bfloat16, kept as float32. Truncation instead would cost a tenfold error.
SSLK_INLINE __m512 round_to_bf16(__m512 x) {
  const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
  return _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(int(0xffff0000))));
}

SSLK_INLINE __m512i to_bf16(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Takes the highest part off x, or all of it when it is the last: what is left stays in x.
template <bool Last>
SSLK_INLINE __m512 take_part(__m512& x) {
  if constexpr (Last) return x;
  const __m512 part = round_to_bf16(x);
  x = _mm512_sub_ps(x, part);
  return part;
}

}  // namespace sslk::amx
