// What every symmetric kernel knows of one row, and the range in which the symmetric ones work.
#pragma once

#include <cmath>

#include "problem.h"

namespace sslk {

constexpr double kLog2E = 1.44269504088896340736;
constexpr double kNormEpsilon = 1e-12;  // torch.nn.functional.normalize

// One exponential per pair, with no maximum taken off, serves a row and a column while |score| *
// log2(e) stays below this: sums over 2^16 rows and gradients down to 1e-5 stay in range.
template <class T>
constexpr T kLargestExponent = sizeof(T) == 8 ? T(480) : T(88);

// A row's softmax, with the positive apart from the negatives: the loss and the positive's
// gradient keep their relative precision when the positive has nearly all the probability.
struct RowStat {
  double negatives;  // sum of exp(s_ij) over the negatives
  double positive;   // <z_i, z_partner>; 0 without a partner

  template <class Acc>
  static RowStat read(const Symmetric& problem, const SymmetricBackward<Acc>& from, int64_t i) {
    if (from.row_stat == nullptr) return {std::exp(double(from.lse[i])), 0.0};
    return {double(from.row_stat[i]), double(from.row_stat[problem.views.rows() + i])};
  }

  double sum(const Symmetric& problem) const {
    const bool counts = problem.views.paired() && !problem.exclude_partner;
    return counts ? negatives + std::exp(problem.scale * positive) : negatives;
  }
  double loss(const Symmetric& problem) const {
    const double score = problem.scale * positive;
    if (!problem.views.paired()) return std::log(negatives);
    if (problem.exclude_partner) return std::log(negatives) - score;
    return std::log1p(negatives * std::exp(-score));
  }
  // d loss / d score of the positive pair; `total` is sum().
  double slope(const Symmetric& problem, double total) const {
    return problem.exclude_partner ? -1.0 : -negatives / total;
  }
};

}  // namespace sslk
