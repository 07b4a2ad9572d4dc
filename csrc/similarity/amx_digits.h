// float32 products on the integers of the AMX tile unit: twice the rate of bfloat16, exact sums.
//
// The values of a row are multiples of the row's unit, a power of two: x = unit (65536 h + 256 m +
// l) with digits h, m, l in [-128, 127]. Of nine products of digits the six largest are kept, in
// three sums by weight: h h, then h m + m h, then h l + m m + l h.
//   A form: 16 rows x 64 k, one byte each, row-major.
//   B form: 16 rows of k quadruples x 16 columns: the 4-byte transpose of an A tile.
//   C form: 16 x 16 int32.
// Digits of an operand are stored tile after tile, highest first.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "amx.h"
#include "amx_rows.h"
#include "amx_tiles.h"

namespace sslk::amx {

constexpr int kDigits = 3;
constexpr int kDigitDepth = 64;  // values along k in a tile
// Steps along k before sums must be taken out, which then are below 2^31.
constexpr int64_t kDigitSteps = 512;

// Whether scores of that many parts are made of digits instead.
constexpr bool digit_scores(int parts) { return parts == kDigits; }

// One 32 x 32 tile of products: a 32 x 32 matrix of int32 for each weight, the highest first.
struct alignas(64) DigitSums {
  int32_t sum[kDigits][kGroup * kGroup];
};

// Tiles of operands, 1 KiB each, lie in the same memory as those of bfloat16.
static_assert(sizeof(bf16) * kTileElements == 1024);

// The largest magnitude of a row, as bits, which order like magnitudes; NaN is above all.
inline uint32_t largest_bits(const float* row, int64_t width) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t d = 0; d < width; d += 16) {
    const __m512 x = _mm512_maskz_loadu_ps(tail_mask(d, width), row + d);
    largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(x), magnitude));
  }
  return uint32_t(_mm512_reduce_max_epi32(largest));
}

// The unit of a row with this largest magnitude; NaN, which its logits become, if that is no
// number.
inline float digit_unit(uint32_t largest) {
  if (largest >= 0x7f800000) return std::numeric_limits<float>::quiet_NaN();
  // Three digits reach 0.996 * 2^23: what is nearer to the next power of two takes that one's unit.
  const int exponent = int((largest + 0x20000) >> 23) - 127;
  // The bound keeps 1 / unit finite.
  return std::ldexp(1.0f, (exponent < -100 ? -100 : exponent) - 22);
}

// Two tiles of A form for each digit: 32 rows x 64 columns.
struct alignas(64) DigitBlock {
  bf16 digit[kDigits][2 * kTileElements];
};

// The digits of 64 values from column d on, as row r of a block.
SSLK_INLINE void put_digits(const float* row, int64_t d, int64_t width, float per_unit, int r,
                            DigitBlock& block) {
  const __m512i bias = _mm512_set1_epi32(0x808080);  // makes every digit unsigned
  const __m128i unbias = _mm_set1_epi8(int8_t(0x80));
  for (int w = 0; w < 4; ++w) {
    const int64_t at = d + 16 * w;
    const __m512 x = _mm512_maskz_loadu_ps(tail_mask(at, width), row + at);
    const __m512i multiple = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(per_unit)));
    const __m512i biased = _mm512_add_epi32(multiple, bias);
    auto put = [&](int s, __m512i shifted) {
      _mm_store_si128(reinterpret_cast<__m128i*>(block.digit[s] + r * 32 + 8 * w),
                      _mm_xor_si128(_mm512_cvtepi32_epi8(shifted), unbias));
    };
    put(0, _mm512_srli_epi32(biased, 16));
    put(1, _mm512_srli_epi32(biased, 8));
    put(2, biased);
  }
}

// 32 rows of float32 of which digits are wanted; null rows are zero.
class DigitRows {
 public:
  DigitRows(const void* const (&rows)[32], int64_t width, float* units) : width_(width) {
    for (int r = 0; r < 32; ++r) {
      rows_[r] = static_cast<const float*>(rows[r]);
      units[r] = digit_unit(rows_[r] == nullptr ? 0 : largest_bits(rows_[r], width));
      per_unit_[r] = 1 / units[r];
    }
  }
  // 64 columns from d on. What lies `ahead` bytes after them will be wanted soon.
  void split(int64_t d, int64_t ahead, DigitBlock& block) const {
    for (int r = 0; r < 32; ++r) {
      if (rows_[r] == nullptr) {
        for (auto& digit : block.digit) std::memset(digit + r * 32, 0, 64);
        continue;
      }
      const char* next = reinterpret_cast<const char*>(rows_[r] + d) + ahead;
      for (int line = 0; line < 4; ++line) _mm_prefetch(next + 64 * line, _MM_HINT_T0);
      put_digits(rows_[r], d, width_, per_unit_[r], r, block);
    }
  }

 private:
  const int64_t width_;
  const float* rows_[32];
  float per_unit_[32];
};

// C0..C3 = the products of digits of one weight, of which there are 1 + Lower.
template <int Lower, class Slot>
SSLK_INLINE void multiply_weight(const Operand& a, const Operand& b, int64_t steps, Slot&& slot) {
  zero_accumulators();
  for (int64_t k = 0; k < steps; ++k) {
    for (int s = 0; s <= Lower; ++s) {
      const int64_t of_a = k * a.step + s * kTileElements;
      const int64_t of_b = k * b.step + (Lower - s) * kTileElements;
      _tile_loadd(4, a.first + of_a, 64);
      _tile_loadd(6, b.first + of_b, 64);
      _tile_dpbssd(0, 4, 6);
      slot();
      _tile_loadd(7, b.second + of_b, 64);
      _tile_dpbssd(1, 4, 7);
      slot();
      _tile_loadd(5, a.second + of_a, 64);
      _tile_dpbssd(2, 5, 6);
      slot();
      _tile_dpbssd(3, 5, 7);
      slot();
    }
  }
}

// One tile of products over at most kDigitSteps. Vector work runs beside it: first() between the
// first half of the tile products, then turn(), after which `out` is written to, then second().
template <class First, class Turn, class Second>
SSLK_INLINE void multiply_digits(const Operand& a, const Operand& b, int64_t steps, DigitSums& out,
                                 First&& first, Turn&& turn, Second&& second) {
  auto store = [&](int s) {
    store_accumulators(out.sum[s], 16 * kGroup, 16, kGroup * sizeof(int32_t));
  };
  multiply_weight<2>(a, b, steps, first);
  turn();
  store(2);
  multiply_weight<1>(a, b, steps, second);
  store(1);
  multiply_weight<0>(a, b, steps, second);
  store(0);
}

// From the sums of digits to one 32 x 32 tile of products, in steps small enough to run between
// tile products.
class DigitCombiner {
 public:
  // `tile` is set, or added to where its products have begun. Units: of its 32 rows and columns.
  void begin(const DigitSums& from, const float* row_units, const float* column_units, float* tile,
             bool add) {
    from_ = &from;
    row_units_ = row_units;
    for (int h = 0; h < 2; ++h) column_units_[h] = _mm512_loadu_ps(column_units + 16 * h);
    tile_ = tile;
    add_ = add;
    row_ = 0;
  }
  SSLK_INLINE void step() {
    if (row_ == kGroup) return;
    combine_row();
    combine_row();
  }
  void drain() {
    while (row_ != kGroup) step();
  }

 private:
  SSLK_INLINE void combine_row() {
    // Of the lowest weight.
    const __m512 unit = _mm512_set1_ps(65536.0f * row_units_[row_]);
    for (int h = 0; h < 2; ++h) {
      const int at = row_ * kGroup + 16 * h;
      auto sum = [&](int s) { return _mm512_cvtepi32_ps(_mm512_load_si512(from_->sum[s] + at)); };
      const __m512 low = _mm512_fmadd_ps(sum(1), _mm512_set1_ps(256.0f), sum(2));
      const __m512 all = _mm512_fmadd_ps(sum(0), _mm512_set1_ps(65536.0f), low);
      const __m512 before = add_ ? _mm512_load_ps(tile_ + at) : _mm512_setzero_ps();
      // Unit by unit: the product of both may be out of range where that with the sum is not.
      const __m512 product = _mm512_fmadd_ps(_mm512_mul_ps(all, unit), column_units_[h], before);
      _mm512_store_ps(tile_ + at, product);
    }
    ++row_;
  }

  const DigitSums* from_ = nullptr;
  const float* row_units_ = nullptr;
  __m512 column_units_[2];
  float* tile_ = nullptr;
  bool add_ = false;
  int row_ = kGroup;
};

}  // namespace sslk::amx
