// Rows of any floating dtype, read into and written from the accumulator's type.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "host_device.h"
#include "similarity/problem.h"

namespace sslk {

constexpr int64_t element_size(Dtype dtype) {
  return dtype == Dtype::kFloat64 ? 8 : dtype == Dtype::kFloat32 ? 4 : 2;
}

// Row i of two views that lie in two buffers.
template <class Void>
Void* view_row(const Views& views, Void* first, Void* second, int64_t i) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  const int64_t bytes = views.d * element_size(views.dtype);
  return i < views.n ? static_cast<Byte*>(first) + i * bytes
                     : static_cast<Byte*>(second) + (i - views.n) * bytes;
}
inline const void* view_row(const Views& views, int64_t i) {
  return view_row(views, views.z1, views.z2, i);
}

SSLK_HOST_DEVICE inline float bfloat16_to_float(uint16_t x) {
  return std::bit_cast<float>(uint32_t(x) << 16);
}

SSLK_HOST_DEVICE inline uint16_t float_to_bfloat16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;          // NaN
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to nearest, ties to even
}

SSLK_HOST_DEVICE inline float float16_to_float(uint16_t x) {
  const uint32_t magnitude = uint32_t(x & 0x7fff) << 13;
  // Exponents are rebased by a product, which is exact and covers subnormal numbers too.
  uint32_t bits = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  if (magnitude >= 0x0f800000) bits = 0x7f800000 | (magnitude & 0x007fffff);  // infinity, NaN
  return std::bit_cast<float>(bits | uint32_t(x & 0x8000) << 16);
}

SSLK_HOST_DEVICE inline uint16_t float_to_float16(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = uint16_t((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // rounds to infinity
  if (magnitude < 0x38800000) {                       // subnormal: let the adder round
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | uint16_t(std::bit_cast<uint32_t>(sum) - 0x3f000000);
  }
  return sign | uint16_t((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

template <class T>
void load_row(Dtype dtype, const void* row, int64_t d, T* out) {
  switch (dtype) {
    case Dtype::kFloat64:
      for (int64_t k = 0; k < d; ++k) out[k] = T(static_cast<const double*>(row)[k]);
      return;
    case Dtype::kFloat32:
      for (int64_t k = 0; k < d; ++k) out[k] = static_cast<const float*>(row)[k];
      return;
    case Dtype::kBFloat16:
      for (int64_t k = 0; k < d; ++k)
        out[k] = bfloat16_to_float(static_cast<const uint16_t*>(row)[k]);
      return;
    case Dtype::kFloat16:
      for (int64_t k = 0; k < d; ++k)
        out[k] = float16_to_float(static_cast<const uint16_t*>(row)[k]);
      return;
  }
}

template <class T>
void store_row(Dtype dtype, void* row, int64_t d, const T* in) {
  switch (dtype) {
    case Dtype::kFloat64:
      for (int64_t k = 0; k < d; ++k) static_cast<double*>(row)[k] = in[k];
      return;
    case Dtype::kFloat32:
      for (int64_t k = 0; k < d; ++k) static_cast<float*>(row)[k] = float(in[k]);
      return;
    case Dtype::kBFloat16:
      for (int64_t k = 0; k < d; ++k)
        static_cast<uint16_t*>(row)[k] = float_to_bfloat16(float(in[k]));
      return;
    case Dtype::kFloat16:
      for (int64_t k = 0; k < d; ++k)
        static_cast<uint16_t*>(row)[k] = float_to_float16(float(in[k]));
      return;
  }
}

// True when every element is finite: looks at the exponents, since the order of a sum of floats
// would keep the compiler from taking several at once.
template <class T>
bool all_finite(const T* row, int64_t d) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  const Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  Bits beyond = 0;
  for (int64_t k = 0; k < d; ++k) beyond |= (std::bit_cast<Bits>(row[k]) & exponent) == exponent;
  return beyond == 0;
}

}  // namespace sslk
