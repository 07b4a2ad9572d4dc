// The two views of an NT-Xent problem as one packed matrix of (normalised) rows.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "../parallel.h"
#include "../rows.h"
#include "operand.h"
#include "row_stat.h"

namespace sslk {

// Row i into [width], with zeros past its features or the last row. One that holds NaN or inf
// becomes NaN throughout, so that every score with it is NaN. inv_norm is written by the forward
// and read by the backward. Returns the squared norm of what the views have.
template <class T, bool Forward>
T load_view(const Symmetric& problem, int64_t i, int64_t width, T* inv_norm, T* row) {
  const Views& views = problem.views;
  std::fill(row, row + width, T(0));
  if (i >= views.rows()) return 0;
  load_row(views.dtype, view_row(views, i), views.d, row);
  Vec<T> squares{};
  for (int64_t k = 0; k < width; k += kLanes<T>) squares += load(row + k) * load(row + k);
  const T square = sum(squares);
  T factor = 1;
  if (problem.normalize) {
    factor = Forward ? T(1) / std::max(std::sqrt(square), T(kNormEpsilon)) : inv_norm[i];
  }
  if (!all_finite(row, views.d)) factor = std::numeric_limits<T>::quiet_NaN();
  if (problem.normalize && Forward) inv_norm[i] = factor;
  for (int64_t k = 0; k < views.d; ++k) row[k] *= factor;
  return square;
}

// Fills z from the views; returns the largest squared norm of a row (1 when they are normalised).
template <class T, bool Forward, class Matrix>
T load_views(const Symmetric& problem, const Matrix& z, T* inv_norm) {
  std::atomic<T> largest{problem.normalize ? T(1) : T(0)};
  parallel_ranges(z.padded_rows() / kRowPadding, [&](int64_t begin, int64_t end) {
    std::vector<T> rows(kRowPadding * z.width());
    T here = 0;
    for (int64_t first = begin * kRowPadding; first < end * kRowPadding; first += kRowPadding) {
      for (int64_t r = 0; r < kRowPadding; ++r) {
        T* const row = rows.data() + r * z.width();
        const T square = load_view<T, Forward>(problem, first + r, z.width(), inv_norm, row);
        if (!problem.normalize && square > here) here = square;
      }
      z.pack(first, kRowPadding, rows.data());
    }
    T seen = largest.load();
    while (seen < here && !largest.compare_exchange_weak(seen, here)) {
    }
  });
  return largest.load();
}

// The share of (W Z)_i that rows of the same class have.
template <class T>
void add_pull(const ClassPull<T>& classes, int64_t i, const T* unit, int64_t d, T* row) {
  const int64_t c = classes.of_row[i];
  if (c < 0) return;
  const T* sum = classes.sums + c * d;
  for (int64_t k = 0; k < d; ++k) row[k] -= classes.weight[c] * (sum[k] - unit[k]);
}

// Turns dz[i] = (W Z)_i, rows of `width`, into the gradient of the views, through scale and
// normalisation, row by row in parallel; returns the sum of <z_i, (W Z)_i>.
template <class T>
T store_gradients(const Symmetric& problem, int64_t width, T* dz, const SymmetricBackward<T>& out,
                  T* dots) {
  const Views& views = problem.views;
  parallel_ranges(views.rows(), [&](int64_t begin, int64_t end) {
    std::vector<T> unit(width);
    for (int64_t i = begin; i < end; ++i) {
      load_view<T, false>(problem, i, width, const_cast<T*>(out.inv_norm), unit.data());
      T* row = dz + i * width;
      if (out.classes) add_pull(*out.classes, i, unit.data(), views.d, row);
      Vec<T> products{};
      for (int64_t k = 0; k < width; k += kLanes<T>) products += load(&unit[k]) * load(row + k);
      dots[i] = sum(products);
      const T inv_norm = problem.normalize ? out.inv_norm[i] : T(1);
      // Below the epsilon the norm is a constant and nothing is projected out.
      const bool projected = problem.normalize && inv_norm < T(1 / kNormEpsilon);
      const T remove = projected ? dots[i] : T(0), factor = T(problem.scale) * inv_norm;
      for (int64_t k = 0; k < width; ++k) row[k] = factor * (row[k] - remove * unit[k]);
      store_row(views.dtype, view_row(views, out.dz1, out.dz2, i), views.d, row);
    }
  });
  T total = 0;
  for (int64_t i = 0; i < views.rows(); ++i) total += dots[i];
  return total;
}

}  // namespace sslk
