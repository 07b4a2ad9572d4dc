// Antialiased linear interpolation as torch.nn.functional.interpolate has it: of one axis, which
// inputs an output is made of, and with which weights.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace sslk::augment {

// The most weights that an output has.
SSLK_INLINE int64_t resize_taps(int64_t inputs, int64_t outputs) {
  const double scale = double(inputs) / double(outputs);
  // 2 support + 1, rounded down; when nothing shrinks the outermost of three weights is zero.
  const int64_t taps = scale <= 1 ? 2 : int64_t(2 * scale + 1.0001);
  return taps < inputs ? taps : inputs;
}

// Positions are computed as torch computes them, rounding by rounding: at position 500 one ulp
// moves a weight by 3e-5.
template <class T>
class ResizeAxis {
 public:
  using V = Vec<T>;
  using I = Vec<Index<T>>;

  // Inputs first ... first + count - 1 of an output around its centre.
  struct Window {
    V centre;
    I first, count;
  };

  ResizeAxis() = default;
  SSLK_INLINE ResizeAxis(int64_t inputs, int64_t outputs)
      : inputs_(Index<T>(inputs)),
        outputs_(Index<T>(outputs)),
        taps_(Index<T>(resize_taps(inputs, outputs))),
        scale_(T(inputs_) / T(outputs_)),
        support_(scale_ > T(1) ? scale_ : T(1)),
        inverse_(scale_ > T(1) ? T(1) / scale_ : T(1)) {}

  SSLK_INLINE Index<T> taps() const { return taps_; }

  SSLK_INLINE Window window(I output, bool flipped) const {
    if (flipped) output = (outputs_ - 1) - output;
    Window w;
    w.centre = rounded((to_float<T>(output) + T(0.5)) * scale_);
    w.first = truncated<T>(w.centre - support_ + T(0.5));
    I end = truncated<T>(w.centre + support_ + T(0.5));
    w.first = w.first > 0 ? w.first : I{};
    end = end < inputs_ ? end : I{} + inputs_;
    w.count = end - w.first;
    w.count = w.count < taps_ ? w.count : I{} + taps_;
    return w;
  }

  // Of input first + t, before they are divided by their sum.
  SSLK_INLINE V weight(const Window& w, Index<T> t) const {
    const V distance = (to_float<T>(w.first + t) - w.centre + T(0.5)) * inverse_;
    const V weight = larger(V{}, broadcast(T(1)) - absolute(distance));
    return (I{} + t) < w.count ? weight : V{};
  }

  // Where vectors have one lane: outputs first ... end - 1, not flipped, are all that have a weight
  // of an input.
  struct Targets {
    Index<T> first, end;
  };
  SSLK_INLINE Targets targets(Index<T> input) const {
    const T lowest = (T(input) + T(0.5) - support_) / scale_ - T(0.5);
    const Index<T> first = lowest > T(0) ? Index<T>(lowest) : 0;
    const Index<T> end = Index<T>(lowest + T(2) * support_ / scale_) + 2;
    return {first, end < outputs_ ? end : outputs_};
  }
  // The weight of an input in an output that is not flipped, before division by their sum.
  SSLK_INLINE T weight_between(Index<T> input, Index<T> output) const {
    const Window w = window(output, false);
    return input < w.first ? T(0) : weight(w, input - w.first);
  }

 private:
  Index<T> inputs_, outputs_, taps_;
  T scale_, support_, inverse_;
};

}  // namespace sslk::augment
