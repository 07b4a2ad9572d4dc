// The kernel of cross_pass.h on the AMX tile unit: values in 1 to 3 bfloat16 parts, three for
// gradients only, whose logits are made of digits.
//
// Columns of the problem (rows of K) are the rows of a tile of logits and rows of Q its columns:
// what the vector work does for a row of the problem then stays in its lane.
#pragma once

#ifdef SSLK_ISA_AMX

#include "amx.h"
#include "cross_amx_columns.h"
#include "cross_amx_rows.h"

namespace sslk::amx {

template <int Parts>
struct CrossKernel {
  using Scalar = float;
  using Session = TileSession;
  using Store = CrossStore<Parts>;
  using Rows = CrossRows<Parts>;
  using Columns = CrossColumns<Parts>;
  static constexpr int64_t kForwardColumns = Columns::kForwardColumns;
  static constexpr int64_t kBackwardColumns = Columns::kBackwardColumns;
};

}  // namespace sslk::amx

#endif  // SSLK_ISA_AMX
