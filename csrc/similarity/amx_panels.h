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
#include "amx_digits.h"
#include "amx_rows.h"
#include "row_stat.h"

namespace sslk::amx {

// Z in the forms that the operands of the algorithms want, rows and columns padded to 32:
//   scores S = Z Z^T:  a (rows) and b (columns), in `Parts` parts, or digits in place of three;
//   dZ += W Z: v;  dZ^T += Z^T W: t, in the first `ValueParts` parts.
enum PanelForms : unsigned { kA = 1, kB = 2, kV = 4, kT = 8 };

template <int Parts, int ValueParts>
struct Panels {
  static constexpr bool kDigitScores = digit_scores(Parts);

  int64_t groups;          // of 32 rows
  int64_t depth;           // tiles of 32 along D
  int64_t score_depth;     // tiles along D of a and b
  float* units = nullptr;  // of the rows' digits
  bf16 *a = nullptr, *b = nullptr, *v = nullptr, *t = nullptr;

  Panels(int64_t rows, int64_t d)
      : groups((rows + 31) / 32),
        depth((d + 31) / 32),
        score_depth(kDigitScores ? (d + kDigitDepth - 1) / kDigitDepth : depth) {}

  void place(Workspace& workspace, unsigned forms) {
    units = workspace.take<float>(groups * 32);
    if (forms & kA) a = workspace.take<bf16>(groups * group());
    if (forms & kB) b = workspace.take<bf16>(groups * group());
    if (forms & kV) v = workspace.take<bf16>(groups * value_group());
    if (forms & kT) t = workspace.take<bf16>(groups * value_group());
  }
  size_t bytes(unsigned forms) const {
    const int wide = !!(forms & kA) + !!(forms & kB), values = !!(forms & kV) + !!(forms & kT);
    return Workspace::padded<float>(groups * 32) +
           wide * Workspace::padded<bf16>(groups * group()) +
           values * Workspace::padded<bf16>(groups * value_group());
  }

  int64_t row_tile() const { return score_depth * Parts * kTileElements; }        // 16 rows
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
  constexpr bool kDigitScores = digit_scores(Parts);
  const int64_t width = panels.depth * 32;
  const auto put_scores = [&](int64_t k, int s, const bf16* block) {
    for (int tile = 0; tile < 2; ++tile) {
      const bf16* source = block + tile * kTileElements;
      const int64_t at =
          g * panels.group() + tile * panels.row_tile() + (k * Parts + s) * kTileElements;
      if (panels.a != nullptr) std::memcpy(panels.a + at, source, 1024);
      transpose(source, panels.b + at);
    }
  };
  if constexpr (kDigitScores) {
    const void* source[32];
    for (int r = 0; r < 32; ++r) source[r] = rows + r * width;
    const DigitRows digits(source, width, panels.units + g * 32);
    DigitBlock block;
    for (int64_t k = 0; k < panels.score_depth; ++k) {
      digits.split(k * kDigitDepth, 0, block);
      for (int s = 0; s < kDigits; ++s) put_scores(k, s, block.digit[s]);
    }
    if (panels.v == nullptr) return;
  }
  constexpr int kSplit = kDigitScores ? ValueParts : Parts;
  alignas(64) bf16 part[kSplit][2 * kTileElements];  // 32 rows x 32 columns
  for (int64_t k = 0; k < panels.depth; ++k) {
    for (int r = 0; r < 32; ++r) {
      const float* row = rows + r * width + k * 32;
      split<kSplit>(_mm512_load_ps(row), _mm512_load_ps(row + 16), r, part);
    }
    for (int s = 0; s < kSplit; ++s) {
      if constexpr (!kDigitScores) put_scores(k, s, part[s]);
      if (panels.v == nullptr || s >= ValueParts) continue;
      for (int half = 0; half < 2; ++half) {
        const int64_t at =
            g * panels.value_group() + ((2 * k + half) * ValueParts + s) * kTileElements;
        interleave_rows(part[s], half, panels.v + at);
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
