// The pointwise stages, as torchvision has them for float images, one vector of pixels at a time.
//
// apply() changes the channels in place. reverse() takes the input of apply() and turns the
// gradient of its output into that of its input; at kinks it takes torch's side.
#pragma once

#include "luma.h"

namespace sslk::augment {

template <class T>
SSLK_INLINE Vec<T> unit_clamp(Vec<T> x) {
  return clamp(x, Vec<T>{}, broadcast(T(1)));
}
// The gradient of unit_clamp at x.
template <class T>
SSLK_INLINE Vec<T> unit_clamp_gradient(Vec<T> x, Vec<T> gradient) {
  return (x >= T(0)) & (x <= T(1)) ? gradient : Vec<T>{};
}

// ---- One channel at a time ----------------------------------------------------------------------

template <class T>
struct Brightness {
  T factor;
  SSLK_INLINE void apply(Vec<T>& x) const { x = unit_clamp<T>(x * factor); }
  SSLK_INLINE void reverse(Vec<T> x, Vec<T>& g) const {
    g = unit_clamp_gradient<T>(x * factor, g) * factor;
  }
};

// Contrast: away from or to the mean luma of the image.
template <class T>
struct Contrast {
  T factor, mean;
  SSLK_INLINE Vec<T> blend(Vec<T> x) const { return x * factor + (T(1) - factor) * mean; }
  SSLK_INLINE void apply(Vec<T>& x) const { x = unit_clamp<T>(blend(x)); }
};

template <class T>
struct Solarize {
  T threshold;
  SSLK_INLINE void apply(Vec<T>& x) const { x = x >= threshold ? T(1) - x : x; }
  SSLK_INLINE void reverse(Vec<T> x, Vec<T>& g) const { g = x >= threshold ? -g : g; }
};

template <class T>
struct DiffBrightness {
  T shift;
  SSLK_INLINE void apply(Vec<T>& x) const { x += shift; }
};

template <class T>
struct DiffContrast {
  T factor, mean;
  SSLK_INLINE void apply(Vec<T>& x) const { x = (x - mean) * factor + mean; }
};

// ---- Red, green and blue ------------------------------------------------------------------------

template <class T>
struct Saturation {
  T factor;
  SSLK_INLINE void apply(Vec<T>& r, Vec<T>& g, Vec<T>& b) const {
    const Vec<T> grey = luma(r, g, b) * (T(1) - factor);
    r = unit_clamp<T>(r * factor + grey);
    g = unit_clamp<T>(g * factor + grey);
    b = unit_clamp<T>(b * factor + grey);
  }
  SSLK_INLINE void reverse(Vec<T> r, Vec<T> g, Vec<T> b, Vec<T>& dr, Vec<T>& dg, Vec<T>& db) const {
    const Vec<T> grey = luma(r, g, b) * (T(1) - factor);
    dr = unit_clamp_gradient<T>(r * factor + grey, dr);
    dg = unit_clamp_gradient<T>(g * factor + grey, dg);
    db = unit_clamp_gradient<T>(b * factor + grey, db);
    const Vec<T> shared = (dr + dg + db) * (T(1) - factor);
    dr = dr * factor + shared * T(kLumaRed);
    dg = dg * factor + shared * T(kLumaGreen);
    db = db * factor + shared * T(kLumaBlue);
  }
};

template <class T>
struct Grayscale {
  SSLK_INLINE void apply(Vec<T>& r, Vec<T>& g, Vec<T>& b) const { r = g = b = luma(r, g, b); }
  SSLK_INLINE void reverse(Vec<T>& dr, Vec<T>& dg, Vec<T>& db) const {
    const Vec<T> sum = dr + dg + db;
    dr = sum * T(kLumaRed);
    dg = sum * T(kLumaGreen);
    db = sum * T(kLumaBlue);
  }
};

}  // namespace sslk::augment
