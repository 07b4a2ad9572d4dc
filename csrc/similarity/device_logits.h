// What kernels of the engine do with a tile of products: logits in base 2, without what is left
// out, and running sums of their exponentials.
#pragma once

#include <type_traits>
#include <utility>

#include "cuda.h"
#include "device_stream.h"

namespace sslk::device {

constexpr float kLog2OfE = 1.44269504088896340736f, kLogOf2 = 0.69314718055994530942f;

// What the rows of a tile are. Where the keys are the queries every pair counts both ways.
enum class Side { kQueries, kKeys, kBoth };

// DeviceLogits as it travels with a launch.
struct Problem {
  Matrix q, k;
  const float *scale, *bias;
  uint32_t excluded;
  uint32_t offset[kMostExcluded];  // in [0, rows of k)

  __device__ __forceinline__ bool excludes(uint32_t query, uint32_t key) const {
    for (uint32_t i = 0; i < excluded; ++i) {
      if ((query + offset[i]) % k.rows == key) return true;
    }
    return false;
  }

  // Whether any of these queries and keys might exclude each other.
  __device__ __forceinline__ bool may_exclude(uint32_t first_query, uint32_t queries,
                                              uint32_t first_key, uint32_t keys) const {
    for (uint32_t i = 0; i < excluded; ++i) {
      const uint32_t out = (first_query + offset[i]) % k.rows;
      const uint32_t ahead = first_key < out ? first_key + (k.rows - out) : first_key - out;
      if (ahead < queries || ahead + keys > k.rows) return true;
    }
    return false;
  }
};

inline bool make_problem(const DeviceLogits& call, Problem& p) {
  constexpr int64_t kMostRows = (int64_t(1) << 31) - 1;
  if (call.d < 1 || call.d > kMostFeatures || call.m > kMostRows || call.n > kMostRows ||
      (call.m > 0 && call.n < 1) || call.excluded > kMostExcluded) {
    return false;
  }
  const auto matrix = [&](const void* values, int64_t rows) {
    const bool aligned = call.d % kPiece == 0 && reinterpret_cast<uintptr_t>(values) % 16 == 0;
    return Matrix{static_cast<const uint16_t*>(values), uint32_t(rows), uint32_t(call.d), aligned};
  };
  p.q = matrix(call.q, call.m);
  p.k = matrix(call.k ? call.k : call.q, call.n);
  p.scale = call.scale;
  p.bias = call.bias;
  p.excluded = uint32_t(call.excluded);
  for (int64_t i = 0; i < call.excluded && call.n > 0; ++i) {
    p.offset[i] = uint32_t((call.exclude[i] % call.n + call.n) % call.n);
  }
  return true;
}

// The keys are the rows: for losses that are the same for both, without bias and exclusions.
inline Problem transposed(Problem p) {
  std::swap(p.q, p.k);
  return p;
}

// The pairs of a lane in a tile, as bits, that do not count: columns past the end, and exclusions.
// The rows are queries and the columns keys, or the other way round.
template <int kRowTiles>
class Hidden {
 public:
  __device__ __forceinline__ Hidden(const Problem& p, bool rows_are_queries, uint32_t columns,
                                    uint32_t first_row, uint32_t first_column) {
    constexpr uint32_t kRows = 64 * kRowTiles;
    const bool excludes = rows_are_queries
                              ? p.may_exclude(first_row, kRows, first_column, kColumns)
                              : p.may_exclude(first_column, kColumns, first_row, kRows);
    any_ = excludes || first_column + kColumns > columns;
    if (!any_) return;
#pragma unroll 1
    for (int c = 0; c < 16; ++c) {
      const uint32_t column = first_column + tile_column(c);
#pragma unroll 1
      for (int h = 0; h < 2 * kRowTiles; ++h) {
        const uint32_t row = first_row + tile_row<kRowTiles>(h);
        const bool out = column >= columns ||
                         (rows_are_queries ? p.excludes(row, column) : p.excludes(column, row));
        bits_ |= Bits(out) << (h + 2 * kRowTiles * c);
      }
    }
  }

  // The same for all threads of a block.
  __device__ __forceinline__ bool any() const { return any_; }
  __device__ __forceinline__ bool has(int h, int c) const {
    return bits_ >> (h + 2 * kRowTiles * c) & 1;
  }

 private:
  using Bits = std::conditional_t<kRowTiles == 1, uint32_t, uint64_t>;
  bool any_;
  Bits bits_ = 0;
};

// Whether a tile might have pairs, whose column less their row is `offset`: they lie on a diagonal,
// which most tiles do not meet.
template <int kRowTiles>
__device__ __forceinline__ bool may_pair(uint32_t first_row, uint32_t first_column,
                                         uint32_t offset) {
  const int ahead = int(first_column - first_row - offset);
  return -kColumns < ahead && ahead < 64 * kRowTiles;
}

// A lane's columns of a vector of one number for each of a tile's columns; the last past the end.
__device__ __forceinline__ uint32_t column_within(uint32_t first_column, int c, uint32_t columns) {
  return min(first_column + tile_column(c), columns - 1);
}

// Products of queries and keys become logits in base 2; past the end they mean nothing.
template <int kRowTiles>
__device__ __forceinline__ void to_every_logit(Tile<kRowTiles>& tile, const Problem& p,
                                               float factor, uint32_t first_column) {
  if (p.bias) {
    float bias[16];
#pragma unroll
    for (int c = 0; c < 16; ++c) {
      bias[c] = p.bias[column_within(first_column, c, p.k.rows)] * kLog2OfE;
    }
    tile.for_each([&](float& value, int, int c) { value = __fmaf_rn(value, factor, bias[c]); });
  } else {
    tile.for_each([&](float& value, int, int) { value *= factor; });
  }
}

// The same; those that do not count are -inf.
template <int kRowTiles>
__device__ __forceinline__ void to_logits(Tile<kRowTiles>& tile, const Problem& p, float factor,
                                          uint32_t first_row, uint32_t first_column) {
  to_every_logit(tile, p, factor, first_column);
  const Hidden<kRowTiles> hidden(p, true, p.k.rows, first_row, first_column);
  if (!hidden.any()) return;
  tile.for_each([&](float& value, int h, int c) {
    if (hidden.has(h, c)) value = -INFINITY;
  });
}

// A shift for exponents: with it an infinite maximum gives 0 or inf, and never NaN.
__device__ __forceinline__ float finite_or_zero(float x) { return fabsf(x) == INFINITY ? 0 : x; }

// sum 2^x as total 2^largest.
struct ExponentialSum {
  float largest = -INFINITY, total = 0;

  __device__ __forceinline__ void add(const ExponentialSum& other) {
    const float most = fmaxf(largest, other.largest), shift = finite_or_zero(most);
    total = total * exp2_of(largest - shift) + other.total * exp2_of(other.largest - shift);
    largest = most;
  }
  // Those of the other lanes that differ in this bit of their number.
  __device__ __forceinline__ void add_across(int bit) {
    add({__shfl_xor_sync(0xffffffff, largest, bit), __shfl_xor_sync(0xffffffff, total, bit)});
  }
  __device__ __forceinline__ float log2() const { return finite_or_zero(largest) + log2f(total); }
};

// The sums of a lane's rows over those columns that it has.
template <int kRowTiles>
struct RowSums {
  ExponentialSum of[2 * kRowTiles];

  __device__ __forceinline__ void add(Tile<kRowTiles>& tile) {
    float shift[2 * kRowTiles];
#pragma unroll
    for (int h = 0; h < 2 * kRowTiles; ++h) shift[h] = of[h].largest;
    tile.for_each([&](float& logit, int h, int) { shift[h] = fmaxf(shift[h], logit); });
#pragma unroll
    for (int h = 0; h < 2 * kRowTiles; ++h) {
      const float before = of[h].largest;
      of[h].largest = shift[h];
      shift[h] = finite_or_zero(shift[h]);
      of[h].total *= exp2_of(before - shift[h]);
    }
    tile.for_each([&](float& logit, int h, int) { of[h].total += exp2_of(logit - shift[h]); });
  }

  // log2 of the sums over all columns into out [rows], from the tile's first row on.
  __device__ __forceinline__ void store(float* out, uint32_t first_row, uint32_t rows) {
#pragma unroll
    for (int h = 0; h < 2 * kRowTiles; ++h) {
      of[h].add_across(1);
      of[h].add_across(2);
      const uint32_t row = first_row + tile_row<kRowTiles>(h);
      if (threadIdx.x % 4 == 0 && row < rows) out[row] = of[h].log2();
    }
  }
};

}  // namespace sslk::device
