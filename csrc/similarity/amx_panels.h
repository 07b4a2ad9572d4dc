// Rows of the views as operands of the AMX tile unit.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "../rows.h"
#include "../workspace.h"
#include "amx.h"
#include "row_stat.h"

namespace sslk::amx {

// ---- rows of the views ---------------------------------------------------------------------

// 16 elements of a row from column d on, zero past the end.
template <Dtype T>
SSLK_INLINE __m512 load16(const void* row, int64_t d, __mmask16 mask) {
  if constexpr (T == Dtype::kFloat32) {
    return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(row) + d);
  } else {
    const __m256i half = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t*>(row) + d);
    if constexpr (T == Dtype::kFloat16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
}

template <Dtype T>
SSLK_INLINE void store16(void* row, int64_t d, __mmask16 mask, __m512 x) {
  if constexpr (T == Dtype::kFloat32) {
    _mm512_mask_storeu_ps(static_cast<float*>(row) + d, mask, x);
  } else {
    __m256i half;
    if constexpr (T == Dtype::kFloat16) {
      half = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    } else {
      half = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x));
    }
    _mm256_mask_storeu_epi16(static_cast<uint16_t*>(row) + d, mask, half);
  }
}

SSLK_INLINE __mmask16 tail_mask(int64_t d, int64_t width) {
  const int64_t left = width - d;
  return left >= 16 ? 0xffff : left <= 0 ? 0 : __mmask16((1u << left) - 1);
}

// ---- operands -------------------------------------------------------------------------------

// How many bfloat16 parts an element of Z is split into: bfloat16 holds 8 bits, so float16's 11
// take two and float32's 24 three.
inline int parts(const Symmetric& problem) {
  const Dtype dtype = problem.views.dtype;
  const bool whole = dtype == Dtype::kFloat32;
  if (dtype == Dtype::kBFloat16 || (whole && problem.precision == Precision::kMedium)) return 1;
  return whole && problem.precision == Precision::kHighest ? 3 : 2;
}

// Z in the forms that the operands of the algorithms want, rows and columns padded to 32:
//   scores S = Z Z^T:  a (rows) and b (columns), in `Parts` parts;
//   dZ += W Z: v;  dZ^T += Z^T W: t, in the first `ValueParts` of them.
enum PanelForms : unsigned { kA = 1, kB = 2, kV = 4, kT = 8 };

template <int Parts, int ValueParts>
struct Panels {
  int64_t groups;  // of 32 rows
  int64_t depth;   // tiles of 32 along D
  bf16 *a = nullptr, *b = nullptr, *v = nullptr, *t = nullptr;

  Panels(int64_t rows, int64_t d) : groups((rows + 31) / 32), depth((d + 31) / 32) {}

  void place(Workspace& workspace, unsigned forms) {
    if (forms & kA) a = workspace.take<bf16>(groups * group());
    if (forms & kB) b = workspace.take<bf16>(groups * group());
    if (forms & kV) v = workspace.take<bf16>(groups * value_group());
    if (forms & kT) t = workspace.take<bf16>(groups * value_group());
  }
  size_t bytes(unsigned forms) const {
    const int wide = !!(forms & kA) + !!(forms & kB), values = !!(forms & kV) + !!(forms & kT);
    return wide * Workspace::padded<bf16>(groups * group()) +
           values * Workspace::padded<bf16>(groups * value_group());
  }

  int64_t row_tile() const { return depth * Parts * kTileElements; }              // 16 rows
  int64_t group() const { return 2 * row_tile(); }                                // 32 rows
  int64_t value_group() const { return 2 * depth * ValueParts * kTileElements; }  // 32 rows

  // Rows 32 g.. as A or B operand of the scores, walking along D.
  Operand rows_of(const bf16* panel, int64_t g) const {
    return {panel + g * group(), panel + g * group() + row_tile(), Parts * kTileElements};
  }
  // Columns 32 d.. of Z (v) or rows of Z^T (t) from group g on, walking along the rows of Z.
  Operand columns_of(const bf16* panel, int64_t g, int64_t d) const {
    const bf16* first = panel + g * value_group() + 2 * d * ValueParts * kTileElements;
    return {first, first + ValueParts * kTileElements, value_group()};
  }
};

// Writes one group of 32 rows, given as float32 [32, 32 * depth], into the panels.
template <int Parts, int ValueParts>
void pack_group(const Panels<Parts, ValueParts>& panels, int64_t g, const float* rows) {
  const int64_t width = panels.depth * 32;
  alignas(64) bf16 part[Parts][2 * kTileElements];  // 32 rows x 32 columns
  for (int64_t k = 0; k < panels.depth; ++k) {
    for (int r = 0; r < 32; ++r) {
      __m512 low = _mm512_load_ps(rows + r * width + k * 32);
      __m512 high = _mm512_load_ps(rows + r * width + k * 32 + 16);
      auto put = [&](int s, __m512 x, __m512 y) {
        _mm512_store_si512(part[s] + r * 32, to_bf16(x, y));
      };
      if constexpr (Parts >= 2) put(0, take_part<false>(low), take_part<false>(high));
      if constexpr (Parts == 3) put(1, take_part<false>(low), take_part<false>(high));
      put(Parts - 1, low, high);
    }
    for (int s = 0; s < Parts; ++s) {
      for (int tile = 0; tile < 2; ++tile) {
        const bf16* source = part[s] + tile * kTileElements;
        const int64_t at =
            g * panels.group() + tile * panels.row_tile() + (k * Parts + s) * kTileElements;
        if (panels.a != nullptr) std::memcpy(panels.a + at, source, 1024);
        transpose(source, panels.b + at);
      }
      if (panels.v == nullptr || s >= ValueParts) continue;
      for (int half = 0; half < 2; ++half) {
        const int64_t at =
            g * panels.value_group() + ((2 * k + half) * ValueParts + s) * kTileElements;
        for (int pair = 0; pair < 16; ++pair) {
          auto sixteen = [&](int r) {
            return _mm512_cvtepu16_epi32(
                _mm256_load_si256(reinterpret_cast<const __m256i*>(part[s] + r * 32 + half * 16)));
          };
          const __m512i odd = _mm512_slli_epi32(sixteen(2 * pair + 1), 16);
          _mm512_store_si512(panels.v + at + pair * 32, _mm512_or_si512(sixteen(2 * pair), odd));
        }
        if (panels.t != nullptr) transpose(panels.v + at, panels.t + at);
      }
    }
  }
}

// Reads 32 rows from row 32 g on into float32 [32, width], normalised on request; rows past the end
// are zero. A row that holds NaN or inf becomes NaN throughout, so that every score with it is NaN.
// Returns the largest squared norm. inv_norm is written by the forward and read by the backward.
template <Dtype T, bool Forward>
float load_group(const Symmetric& problem, int64_t g, int64_t width, float* rows, float* inv_norm) {
  const Views& views = problem.views;
  float largest = 0;
  for (int r = 0; r < 32; ++r) {
    const int64_t i = g * 32 + r;
    float* out = rows + r * width;
    if (i >= views.rows()) {
      std::fill(out, out + width, 0.0f);
      continue;
    }
    const void* row = view_row(views, i);
    __m512 squares = _mm512_setzero_ps();
    for (int64_t d = 0; d < width; d += 16) {
      const __m512 x = load16<T>(row, d, tail_mask(d, views.d));
      _mm512_store_ps(out + d, x);
      squares = _mm512_fmadd_ps(x, x, squares);
    }
    const float square = _mm512_reduce_add_ps(squares);
    float factor = 1.0f;
    if (problem.normalize) {
      factor = Forward ? 1.0f / std::max(std::sqrt(square), float(kNormEpsilon)) : inv_norm[i];
    }
    if (!std::isfinite(square)) {  // an element is not finite, or the squares overflowed
      const auto finite = [](float x) { return std::isfinite(x); };
      if (!std::all_of(out, out + width, finite)) factor = std::numeric_limits<float>::quiet_NaN();
    }
    if (problem.normalize && Forward) inv_norm[i] = factor;
    if (std::isnan(factor)) {
      std::fill(out, out + width, factor);
    } else if (problem.normalize) {
      for (int64_t d = 0; d < width; d += 16) {
        const __m512 x = _mm512_mul_ps(_mm512_load_ps(out + d), _mm512_set1_ps(factor));
        _mm512_store_ps(out + d, x);
      }
    }
    if (!problem.normalize) largest = std::max(largest, std::isnan(factor) ? 0.0f : square);
  }
  return largest;
}

// Packs rows 32 g.. by way of `rows`, 64-byte aligned float32 [32, 32 * depth]; returns the largest
// squared norm.
template <bool Forward, int Parts, int ValueParts>
float pack_views(const Symmetric& problem, const Panels<Parts, ValueParts>& panels, int64_t g,
                 float* rows, float* inv_norm) {
  const auto load = [&] {
    const int64_t width = panels.depth * 32;
    switch (problem.views.dtype) {
      case Dtype::kFloat32:
        return load_group<Dtype::kFloat32, Forward>(problem, g, width, rows, inv_norm);
      case Dtype::kBFloat16:
        return load_group<Dtype::kBFloat16, Forward>(problem, g, width, rows, inv_norm);
      default:
        return load_group<Dtype::kFloat16, Forward>(problem, g, width, rows, inv_norm);
    }
  };
  const float largest = load();
  pack_group(panels, g, rows);
  return largest;
}

// The largest squared norm of a row, 1 when they are normalised, collected from several threads.
class LargestSquare {
 public:
  explicit LargestSquare(const Symmetric& problem) : value_(problem.normalize ? 1.0f : 0.0f) {}
  void see(float square) {
    float seen = value_.load();
    while (seen < square && !value_.compare_exchange_weak(seen, square)) {
    }
  }
  // Whether one exponential may serve the row and the column of every score.
  bool in_range(float c) const { return c * value_.load() <= kLargestExponent<float>; }

 private:
  std::atomic<float> value_;
};

}  // namespace sslk::amx
