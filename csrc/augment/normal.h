// Normal numbers out of words of the generator.
#pragma once

#include <cmath>
#include <cstdint>

#include "../host_device.h"

namespace sslk::augment {

// Two normal numbers out of two words, by Box and Muller.
template <class T>
SSLK_HOST_DEVICE inline void normal_pair(uint32_t first, uint32_t second, T* out) {
  const T radius = std::sqrt(T(-2) * std::log(T((first >> 8) + 1) * T(0x1p-24)));
  const T angle = T(6.283185307179586 * 0x1p-24) * T(second >> 8);
  out[0] = radius * std::cos(angle);
  out[1] = radius * std::sin(angle);
}

}  // namespace sslk::augment
