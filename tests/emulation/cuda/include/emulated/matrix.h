// mma.sync.m16n8k16 and ldmatrix.x4, which CUDA C++ spells in assembly only: see csrc's wrapper.
#pragma once

#include <cstdint>

#include "machine.h"

namespace emulated {

// d += a b^T: a [16, 16] and b [8, 16] of 16-bit numbers, d [16, 8] float, spread over the warp as
// PTX has it. `widened` makes a float of 16 bits. Products are exact, sums are rounded in order.
template <class Widened>
EMULATED_CALL void multiply_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                     Widened&& widened) {
  const Slot mine = {
      {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32, b[0] | uint64_t(b[1]) << 32, 0}};
  const Slot* const slots = exchange(WarpOp::kMatrix, 0xffffffff, mine, EMULATED_WHERE);
  // Registers 0 and 1 of `a` have rows 0-7 and 8-15 of columns 0-7, 2 and 3 those of columns 8-15;
  // lane 4 r + c has columns 2 c and 2 c + 1 of row r of each.
  const auto half = [&](unsigned of_lane, unsigned from, unsigned k) EMULATED_UNSEEN {
    const uint64_t word = slots[of_lane].words[from / 2] >> 32 * (from % 2);
    return widened(uint16_t(word >> 16 * (k % 2)));
  };
  const unsigned row = lane() / 4, column = lane() % 4 * 2;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned lower = i / 2, n = column + i % 2;
    float sum = d[i];
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned in_row = k % 8 / 2;
      sum += half(row * 4 + in_row, lower + k / 8 * 2, k) * half(n * 4 + in_row, 4 + k / 8, k);
    }
    d[i] = sum;
  }
}

// The rows that the lanes of a warp give: row r of matrix i is lane 8 i + r's.
EMULATED_UNSEEN inline const Slot* rows_of_matrices(const void* row, const void* where) {
  if (reinterpret_cast<uintptr_t>(row) % 16) {
    fail("Misaligned", "a row of ldmatrix that is not aligned to 16 bytes", where);
  }
  read(row, 16, where);
  Slot mine = {};
  __builtin_memcpy(&mine, row, 16);
  return exchange(WarpOp::kLoadMatrix, 0xffffffff, mine, where);
}

// Four 8 x 8 matrices of 16-bit numbers: a lane gives the address of a row of one of them.
EMULATED_CALL inline void load_four_matrices(uint32_t (&registers)[4], const void* row) {
  const Slot* const slots = rows_of_matrices(row, EMULATED_WHERE);
  for (unsigned m = 0; m < 4; ++m) {
    const uint64_t word = slots[8 * m + lane() / 4].words[lane() % 4 / 2];
    registers[m] = uint32_t(word >> 32 * (lane() % 2));
  }
}

// Their transposes.
EMULATED_CALL inline void load_four_transposed(uint32_t (&registers)[4], const void* row) {
  const Slot* const slots = rows_of_matrices(row, EMULATED_WHERE);
  const unsigned column = lane() / 4, shift = 16 * (column % 4);
  for (unsigned m = 0; m < 4; ++m) {
    const Slot* const rows = slots + 8 * m + lane() % 4 * 2;
    const uint32_t low = rows[0].words[column / 4] >> shift & 0xffff;
    const uint32_t high = rows[1].words[column / 4] >> shift & 0xffff;
    registers[m] = low | high << 16;
  }
}

}  // namespace emulated
