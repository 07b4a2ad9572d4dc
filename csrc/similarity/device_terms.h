// Logits that may be capped, for targets and weighted sums over columns.
#pragma once

#include <algorithm>
#include <cfloat>

#include "counted_rows.h"

namespace sslk::device {

// DeviceTerms as it travels with a launch, beside its logits.
struct Terms {
  const int64_t* target;
  const float* column_weight;
  float cap, inverse_cap;  // in base 2; 0: none

  // What the cap leaves of a logit, over the cap.
  __device__ __forceinline__ float tangent(float logit) const { return tanhf(logit * inverse_cap); }
};

inline bool make_terms(const DeviceTerms& call, Problem& p, Terms& terms) {
  if (!call.logits.k || call.logits.excluded || !(call.softcap >= 0) ||
      !make_problem(call.logits, p)) {
    return false;
  }
  const double cap = std::min(call.softcap * kLog2OfE, double(FLT_MAX));
  terms = {call.target, call.column_weight, float(cap), cap > 0 ? float(1 / cap) : 0};
  return true;
}

}  // namespace sslk::device
