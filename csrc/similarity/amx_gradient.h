// The last step of the gradient: from W Z, in the tile unit's formats, to the rows of the views.
#pragma once

#include "amx_panels.h"
#include "amx_tiles.h"
#include "problem.h"
#include "row_stat.h"

namespace sslk::amx {

struct GradientRows {
  const Symmetric& problem;
  int64_t tiles_d;        // C tiles along D
  const float* inv_norm;  // [M]; not read without normalize
  const float* slope;     // [M]: g_i (p_i,partner - 1); not read without partners
  void* dz1;              // the views' dtype
  void* dz2;
  const ClassPull<float>* classes;  // or null

  // `sum` and `other`, C tiles [2][tiles_d], add up to W Z once `other`'s are transposed and its
  // rows, which the B form of the weights permutes, are back in their places.
  void add_transposed(float* sum, const float* other) const {
    alignas(64) float turned[kCTileElements];
    for (int u = 0; u < 2; ++u) {
      for (int64_t d = 0; d < tiles_d; ++d) {
        transpose(other + (u * tiles_d + d) * kCTileElements, turned);
        for (int place = 0; place < 16; ++place) {
          const int r = interleaved_column(u, place);
          float* row = sum + ((r / 16) * tiles_d + d) * kCTileElements + (r % 16) * 16;
          _mm512_store_ps(row,
                          _mm512_add_ps(_mm512_load_ps(row), _mm512_load_ps(turned + place * 16)));
        }
      }
    }
  }

  // dZ = scale W Z of rows 32 g.., through the normalisation; returns the sum of <z_i, (W Z)_i>.
  float finish(int64_t g, float* sum) const {
    switch (problem.views.dtype) {
      case Dtype::kFloat32:
        return store<Dtype::kFloat32>(g, sum);
      case Dtype::kBFloat16:
        return store<Dtype::kBFloat16>(g, sum);
      default:
        return store<Dtype::kFloat16>(g, sum);
    }
  }

 private:
  template <Dtype T>
  float store(int64_t g, float* sum) const {
    const Views& views = problem.views;
    const __m512 scale = _mm512_set1_ps(float(problem.scale));
    double dots = 0;
    for (int r = 0; r < kGroup; ++r) {
      const int64_t i = g * kGroup + r;
      if (i >= views.rows()) break;
      float* row = sum + (r / 16) * tiles_d * kCTileElements + (r % 16) * 16;
      const void* input = view_row(views, i);
      if (views.paired()) add_positive<T>(i, row);
      if (classes) add_pull<T>(i, row);
      const float factor_in = problem.normalize ? inv_norm[i] : 1.0f;
      __m512 dot = _mm512_setzero_ps();
      for (int64_t d = 0; d < tiles_d; ++d) {
        const __m512 x = load16<T>(input, d * 16, tail_mask(d * 16, views.d));
        dot = _mm512_fmadd_ps(_mm512_load_ps(row + d * kCTileElements), x, dot);
      }
      const float along = _mm512_reduce_add_ps(dot) * factor_in;  // <(W Z)_i, z_i>
      dots += along;
      // Below the epsilon the norm is a constant and nothing is projected out.
      const bool projected = problem.normalize && factor_in < float(1.0 / kNormEpsilon);
      const __m512 remove = _mm512_set1_ps(projected ? along * factor_in : 0.0f);
      const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(factor_in));
      void* target = view_row(views, dz1, dz2, i);
      for (int64_t d = 0; d < tiles_d; ++d) {
        const __mmask16 mask = tail_mask(d * 16, views.d);
        const __m512 x = load16<T>(input, d * 16, mask);
        const __m512 dz = _mm512_fnmadd_ps(remove, x, _mm512_load_ps(row + d * kCTileElements));
        store16<T>(target, d * 16, mask, _mm512_mul_ps(factor, dz));
      }
    }
    return float(dots);
  }

  // The positive pair's share of (W Z)_i: (g_i (p_ij - 1) + g_j (p_ji - 1)) z_j.
  template <Dtype T>
  void add_positive(int64_t i, float* row) const {
    const Views& views = problem.views;
    const int64_t j = views.partner(i);
    const void* input = view_row(views, j);
    const float factor = problem.normalize ? inv_norm[j] : 1.0f;
    const __m512 weight = _mm512_set1_ps((slope[i] + slope[j]) * factor);
    for (int64_t d = 0; d < tiles_d; ++d) {
      const __m512 x = load16<T>(input, d * 16, tail_mask(d * 16, views.d));
      float* at = row + d * kCTileElements;
      _mm512_store_ps(at, _mm512_fmadd_ps(weight, x, _mm512_load_ps(at)));
    }
  }

  // The share of (W Z)_i that rows of the same class have.
  template <Dtype T>
  void add_pull(int64_t i, float* row) const {
    const int64_t c = classes->of_row[i];
    if (c < 0) return;
    const Views& views = problem.views;
    const __m512 factor = _mm512_set1_ps(problem.normalize ? inv_norm[i] : 1.0f);
    const __m512 weight = _mm512_set1_ps(classes->weight[c]);
    for (int64_t d = 0; d < tiles_d; ++d) {
      const __mmask16 mask = tail_mask(d * 16, views.d);
      const __m512 z = _mm512_mul_ps(factor, load16<T>(view_row(views, i), d * 16, mask));
      const __m512 sum = _mm512_maskz_loadu_ps(mask, classes->sums + c * views.d + d * 16);
      float* at = row + d * kCTileElements;
      const __m512 others = _mm512_sub_ps(sum, z);
      _mm512_store_ps(at, _mm512_fnmadd_ps(weight, others, _mm512_load_ps(at)));
    }
  }
};

}  // namespace sslk::amx
