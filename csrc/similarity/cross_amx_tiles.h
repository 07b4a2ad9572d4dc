// What the rows and columns of the AMX kernel of cross_pass.h are cut into.
#pragma once

#ifdef SSLK_ISA_AMX

#include <cstring>

#include "../rows.h"
#include "amx.h"
#include "amx_digits.h"
#include "amx_rows.h"
#include "amx_tiles.h"

namespace sslk::amx {

// All parts of a tile of an operand lie one after the other.
template <int Parts>
constexpr int64_t kCrossTile = Parts * kTileElements;

// Tiles along the features of an operand of the logits.
template <int Parts>
constexpr int64_t logit_depth(int64_t d) {
  const int64_t step = digit_scores(Parts) ? kDigitDepth : 32;
  return (d + step - 1) / step;
}

// 32 rows x 32 columns from column d on, as bfloat16 parts; null rows are zero. What lies `ahead`
// bytes after them will be wanted soon.
template <int Parts>
void split_block(Dtype dtype, const void* const (&rows)[32], int64_t d, int64_t width,
                 int64_t ahead, bf16 (&part)[Parts][2 * kTileElements]) {
  const int64_t here = d * element_size(dtype);
  const __mmask16 mask0 = tail_mask(d, width), mask1 = tail_mask(d + 16, width);
  for (int r = 0; r < 32; ++r) {
    if (rows[r] == nullptr) {
      for (int s = 0; s < Parts; ++s) std::memset(part[s] + r * 32, 0, 64);
      continue;
    }
    const char* next = static_cast<const char*>(rows[r]) + here + ahead;
    _mm_prefetch(next, _MM_HINT_T0);
    if (dtype == Dtype::kFloat32) _mm_prefetch(next + 64, _MM_HINT_T0);
    split<Parts>(load16(dtype, rows[r], d, mask0), load16(dtype, rows[r], d + 16, mask1), r, part);
  }
}

}  // namespace sslk::amx

#endif  // SSLK_ISA_AMX
