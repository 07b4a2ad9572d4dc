// The tile unit in AVX-512, for machines that have no AMX: found before the compiler's own header.
//
// Follows the pseudocode of Intel's instruction set reference for LDTILECFG, TILELOADD, TILESTORED,
// TDPBF16PS and TDPBSSD with tiles of 16 rows of 64 bytes, the only ones the kernels configure.
// What the unit would refuse ends the process. Tile loads are ordinary ones, so that
// AddressSanitizer sees them.
#pragma once

#include_next <immintrin.h>

#ifdef SSLK_ISA_AMX

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulated_amx {

constexpr int kRows = 16, kRowBytes = 64;

struct alignas(64) Tile {
  __m512i row[kRows];
};
inline thread_local Tile tiles[8];
inline std::atomic<int64_t> products[2];  // of bfloat16, of bytes
inline thread_local bool configured = false;

inline void refuse_unless(bool allowed, const char* why) {
  if (allowed) return;
  std::fprintf(stderr, "emulated AMX: %s\n", why);
  std::abort();
}
inline Tile& tile(int i) {
  refuse_unless(configured, "a tile is used while none is configured");
  return tiles[i];
}

inline void load_config(const void* memory) {
  uint8_t bytes[64];
  std::memcpy(bytes, memory, sizeof bytes);
  refuse_unless(bytes[0] == 1 && bytes[1] == 0, "the palette is not 1");
  for (int i = 0; i < 8; ++i) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
    refuse_unless(row_bytes == kRowBytes && bytes[48 + i] == kRows, "a tile is not 16 x 64 bytes");
  }
  std::memset(tiles, 0, sizeof tiles);
  configured = true;
}
inline void release() { configured = false; }

inline void zero(int to) { std::memset(&tile(to), 0, sizeof(Tile)); }
inline void load(int to, const void* from, int64_t stride) {
  Tile& target = tile(to);
  for (int r = 0; r < kRows; ++r) {
    target.row[r] = _mm512_loadu_si512(static_cast<const char*>(from) + r * stride);
  }
}
inline void store(int from, void* to, int64_t stride) {
  const Tile& source = tile(from);
  for (int r = 0; r < kRows; ++r) {
    _mm512_storeu_si512(static_cast<char*>(to) + r * stride, source.row[r]);
  }
}

// Dword k of a row of A, in all lanes.
inline __m512i broadcast(const Tile& a, int row, int k) {
  int dword;
  std::memcpy(&dword, reinterpret_cast<const char*>(&a.row[row]) + 4 * k, sizeof dword);
  return _mm512_set1_epi32(dword);
}

// Even and odd products are summed apart, each fused; subnormal numbers are zeros.
inline void multiply_bf16(int to, int a, int b) {
  products[0].fetch_add(1, std::memory_order_relaxed);
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040);
  const auto even = [](__m512i x) { return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16)); };
  const auto odd = [](__m512i x) {
    return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(int(0xffff0000))));
  };
  const Tile &left = tile(a), &right = tile(b);
  for (int m = 0; m < kRows; ++m) {
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int k = 0; k < kRows; ++k) {
      const __m512i x = broadcast(left, m, k), y = right.row[k];
      sums[0] = _mm512_fmadd_ps(even(x), even(y), sums[0]);
      sums[1] = _mm512_fmadd_ps(odd(x), odd(y), sums[1]);
    }
    const __m512 before = _mm512_castsi512_ps(tile(to).row[m]);
    const __m512 sum = _mm512_add_ps(sums[0], sums[1]);
    tile(to).row[m] = _mm512_castps_si512(_mm512_add_ps(before, sum));
  }
  _mm_setcsr(mode);
}

// Signed bytes, summed in int32 without saturation.
inline void multiply_int8(int to, int a, int b) {
  products[1].fetch_add(1, std::memory_order_relaxed);
  const auto even = [](__m512i x) { return _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8); };
  const auto odd = [](__m512i x) { return _mm512_srai_epi16(x, 8); };
  const Tile &left = tile(a), &right = tile(b);
  for (int m = 0; m < kRows; ++m) {
    __m512i sum = tile(to).row[m];
    for (int k = 0; k < kRows; ++k) {
      const __m512i x = broadcast(left, m, k), y = right.row[k];
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(even(x), even(y)));
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(odd(x), odd(y)));
    }
    tile(to).row[m] = sum;
  }
}

}  // namespace emulated_amx

// Tile products since the last call, of bfloat16 (0) or of bytes (1).
extern "C" __attribute__((visibility("default"), used)) inline int64_t emulated_amx_products(
    int kind) {
  return emulated_amx::products[kind].exchange(0);
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbssd
#define _tile_loadconfig(memory) ::emulated_amx::load_config(memory)
#define _tile_release() ::emulated_amx::release()
#define _tile_zero(to) ::emulated_amx::zero(to)
#define _tile_loadd(to, from, stride) ::emulated_amx::load(to, from, stride)
#define _tile_stored(from, to, stride) ::emulated_amx::store(from, to, stride)
#define _tile_dpbf16ps(to, a, b) ::emulated_amx::multiply_bf16(to, a, b)
#define _tile_dpbssd(to, a, b) ::emulated_amx::multiply_int8(to, a, b)

#endif  // SSLK_ISA_AMX
