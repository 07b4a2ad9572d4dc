// The hyperbolic tangent of vectors.
#pragma once

#include "../simd.h"
#include "row_stat.h"

namespace sslk {

// tanh(u) for 0 <= u <= 0.625, with a relative error of 1e-7 (2e-16) however small u is. Cephes.
template <class T>
SSLK_INLINE Vec<T> tanh_near_zero(Vec<T> u) {
  const Vec<T> z = u * u;
  if constexpr (sizeof(T) == 8) {
    Vec<T> p = broadcast(T(-9.64399179425052238628e-1)) * z + T(-9.92877231001918586564e1);
    p = p * z + T(-1.61468768441708447952e3);
    Vec<T> q = z + T(1.12811678491632931402e2);
    q = q * z + T(2.23548839060100448583e3);
    q = q * z + T(4.84406305325125486048e3);
    return u + u * z * (p / q);
  }
  Vec<T> p = broadcast(T(-5.70498872745e-3f)) * z + T(2.06390887954e-2f);
  p = p * z + T(-5.37397155531e-2f);
  p = p * z + T(1.33314422036e-1f);
  p = p * z + T(-3.33332819422e-1f);
  return u + u * z * p;
}

// The same for every u; NaN stays NaN.
template <class T>
SSLK_INLINE Vec<T> tanh_of(Vec<T> u) {
  constexpr T kNear = T(0.625), kEnd = 20;  // tanh is 1 from kEnd on
  const Vec<T> size = u < T(0) ? -u : u;
  const Vec<T> bounded = size > kEnd ? broadcast(kEnd) : size;
  // Its rounding would be all there is of a small result.
  const Vec<T> far = T(1) - T(2) / (T(1) + exp2_scaled<T>(bounded, T(2 * kLog2E)));
  const Vec<T> t = bounded < kNear ? tanh_near_zero<T>(bounded) : far;
  return u < T(0) ? -t : t;
}

}  // namespace sslk
