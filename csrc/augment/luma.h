// How bright a colour is.
#pragma once

#include "lanes.h"

namespace sslk::augment {

constexpr double kLumaRed = 0.2989, kLumaGreen = 0.587, kLumaBlue = 0.114;  // torchvision's

template <class V>
SSLK_INLINE V luma(V red, V green, V blue) {
  using T = Lane<V>;
  return red * T(kLumaRed) + green * T(kLumaGreen) + blue * T(kLumaBlue);
}

}  // namespace sslk::augment
