// The two views of an NT-Xent problem as one packed matrix of (normalised) rows.
#pragma once

#include <cmath>
#include <limits>

#include "../parallel.h"
#include "../rows.h"
#include "operand.h"
#include "row_stat.h"

namespace sslk {

// Fills z from the views; returns the largest squared norm of a row (1 when they are normalised).
// A row that holds NaN or inf becomes NaN throughout, so that every score with it is NaN. inv_norm
// is written by the forward and read by the backward.
template <class T, bool Forward, class Matrix>
T load_views(const Symmetric& problem, const Matrix& z, T* inv_norm) {
  const Views& views = problem.views;
  std::atomic<T> largest{problem.normalize ? T(1) : T(0)};
  parallel_ranges(z.padded_rows() / kRowPadding, [&](int64_t begin, int64_t end) {
    begin *= kRowPadding, end *= kRowPadding;
    T here = 0;
    for (int64_t i = begin; i < end; ++i) {
      T* row = z.row(i);
      std::fill(row, row + z.width(), T(0));
      if (i >= views.rows()) continue;
      load_row(views.dtype, view_row(views, i), views.d, row);
      Vec<T> squares{};
      for (int64_t k = 0; k < z.width(); k += kLanes<T>) squares += load(row + k) * load(row + k);
      const T square = sum(squares);
      T factor = 1;
      if (problem.normalize) {
        factor = Forward ? T(1) / std::max(std::sqrt(square), T(kNormEpsilon)) : inv_norm[i];
      }
      if (!all_finite(row, views.d)) factor = std::numeric_limits<T>::quiet_NaN();
      if (problem.normalize && Forward) inv_norm[i] = factor;
      for (int64_t k = 0; k < views.d; ++k) row[k] *= factor;
      if (!problem.normalize && square > here) here = square;
    }
    z.pack(begin, end);
    T seen = largest.load();
    while (seen < here && !largest.compare_exchange_weak(seen, here)) {
    }
  });
  return largest.load();
}

// Turns dz[i] = (W Z)_i into the gradient of the views, through scale and normalisation, row by row
// in parallel; returns the sum of <z_i, (W Z)_i>.
template <class T, class Matrix>
T store_gradients(const Symmetric& problem, const Matrix& z, T* dz, const SymmetricBackward<T>& out,
                  T* dots) {
  const Views& views = problem.views;
  parallel_ranges(views.rows(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* unit = z.row(i);
      T* row = dz + i * z.width();
      Vec<T> products{};
      for (int64_t k = 0; k < z.width(); k += kLanes<T>) products += load(unit + k) * load(row + k);
      dots[i] = sum(products);
      const T inv_norm = problem.normalize ? out.inv_norm[i] : T(1);
      // Below the epsilon the norm is a constant and nothing is projected out.
      const bool projected = problem.normalize && inv_norm < T(1 / kNormEpsilon);
      const T remove = projected ? dots[i] : T(0), factor = T(problem.scale) * inv_norm;
      for (int64_t k = 0; k < z.width(); ++k) row[k] = factor * (row[k] - remove * unit[k]);
      store_row(views.dtype, view_row(views, out.dz1, out.dz2, i), views.d, row);
    }
  });
  T total = 0;
  for (int64_t i = 0; i < views.rows(); ++i) total += dots[i];
  return total;
}

}  // namespace sslk
