// The weights of a blur, and its border.
#pragma once

#include <cmath>
#include <cstdint>

#include "../host_device.h"

namespace sslk::augment {

// Weights that are not larger cannot be seen in T.
template <class T>
constexpr double kSmallestWeight = sizeof(T) == 8 ? 0.0 : 0x1p-24;

SSLK_HOST_DEVICE inline double gaussian_at(int64_t i, double sigma) {
  return std::exp(-0.5 * double(i * i) / (sigma * sigma));
}

// Index i mirrored into [0, n), the ends not repeated; |i| and |i - n + 1| are below n.
SSLK_HOST_DEVICE inline int64_t mirrored(int64_t i, int64_t n) {
  i = i < 0 ? -i : i;
  return i < n ? i : 2 * n - 2 - i;
}

}  // namespace sslk::augment
