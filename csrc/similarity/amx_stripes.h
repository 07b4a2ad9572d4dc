// The symmetric softmax in stripes of rows, pairs of which are the unit of work (parallel.h): what
// all workers see of it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../parallel.h"
#include "amx_pairs.h"
#include "amx_panels.h"
#include "problem.h"

namespace sslk::amx {

// Groups of 32 rows in a stripe. With more, a pair of wide rows leaves the second-level cache.
constexpr int64_t kMostGroups = 12;
inline int64_t groups_in_stripe(int64_t rows) {
  if (rows <= 1024) return 4;
  return rows < 4096 ? 8 : kMostGroups;
}

// What all workers see of a problem whose scores are made of Parts bfloat16 parts of Z, or of
// digits in place of three; the weights W and the values Z that they multiply have ValueParts. The
// positive pair, which a trained encoder's gradient hangs on, stays out of W and is added in
// float32: what is left in W are many terms with independent roundings.
template <int Parts, int ValueParts>
struct Stripes {
  explicit Stripes(const Symmetric& problem)
      : problem(problem),
        m(problem.views.rows()),
        c(float(problem.scale * kLog2E)),
        pairs(problem),
        panels(m, problem.views.d),
        stripe(groups_in_stripe(m)),
        stripes((panels.groups + stripe - 1) / stripe) {}

  int64_t padded_rows() const { return panels.groups * kGroup; }
  int64_t begin(int64_t at) const { return at * stripe; }
  int64_t end(int64_t at) const { return std::min((at + 1) * stripe, panels.groups); }
  // What lies between the groups of a stripe, in elements of each.
  int64_t gradient_group() const { return kGroup * panels.depth * 32; }

  const Symmetric& problem;
  const int64_t m;
  const float c;  // exp(score) = 2^(c <z_i, z_j>)
  const TilePairs pairs;
  Panels<Parts, ValueParts> panels;
  const int64_t stripe;  // groups in a stripe
  const int64_t stripes;
  float* row_sum = nullptr;  // sum over the negatives of exp(s_ij), of the upper triangle
  float* column_sum[kCommitLanes] = {};  // the same of the lower
  float* positive = nullptr;             // <z_i, z_partner>
  float* row_factor = nullptr;           // g_i / l_i
  float* slope = nullptr;                // g_i (p_i,partner - 1)
  float* dots = nullptr;                 // of each group: sum of <z_i, (W Z)_i>
  // What columns add to W Z, C tiles [M / 16][D / 16], transposed.
  float* dz_transposed[kCommitLanes] = {};
};

}  // namespace sslk::amx
