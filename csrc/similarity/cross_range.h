// Whether one shift of the exponents serves all logits of a problem: exponentials are then taken
// without a maximum.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../parallel.h"
#include "../rows.h"
#include "cross.h"
#include "cross_blocks.h"

namespace sslk {

// Exponents of powers of two that count are within this of zero.
template <class T>
constexpr double kRange = -double(kLowestExponent<T>);

// The largest norm of the rows of a matrix; infinite when one of them is not finite.
inline double largest_norm(const void* matrix, Dtype dtype, int64_t rows, int64_t d) {
  const int64_t parts = worker_count(rows, 64);
  std::vector<double> largest(parts, 0.0);
  parallel_run(parts, [&](int64_t part) {
    constexpr int kStep = kLanes<double>;
    std::vector<double> row((d + kStep - 1) / kStep * kStep, 0.0);
    for (int64_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i) {
      load_row(dtype, static_cast<const char*>(matrix) + i * d * element_size(dtype), d,
               row.data());
      Vec<double> squares{};
      for (size_t k = 0; k < row.size(); k += kStep) squares += load(&row[k]) * load(&row[k]);
      const double square = sum(squares);
      largest[part] = square <= HUGE_VAL ? std::max(largest[part], square) : HUGE_VAL;
    }
  });
  return std::sqrt(*std::max_element(largest.begin(), largest.end()));
}

// What no logit is above, times log2(e); not a number or infinite when one may not be finite.
inline double largest_logit(const Logits& p, double k_norm) {
  // A little more: operands are rounded.
  return 1.01 * std::abs(p.scale) * kLog2E * largest_norm(p.q, p.dtype, p.m, p.d) * k_norm;
}
inline double largest_logit(const Logits& p) {
  return largest_logit(p, largest_norm(p.k, p.dtype, p.n, p.d));
}

// log(sum / 2^shift): without the rounding of a logarithm of that size.
inline double log_shifted(double sum, double shift) {
  int exponent;
  const double mantissa = std::frexp(sum, &exponent);
  return (std::log2(mantissa) + (exponent - shift)) / kLog2E;
}

// All terms that vanish together are less than a rounding error of such a sum.
template <class T>
double least_sum(double terms) {
  return terms * std::exp2(-kRange<T> + (sizeof(T) == 8 ? 54 : 25));
}

}  // namespace sslk
