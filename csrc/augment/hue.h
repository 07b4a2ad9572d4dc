// Rotation of the hue in HSV, without a division: everything is scaled by the chroma.
#pragma once

#include "lanes.h"

namespace sslk::augment {

// A pixel is (minimum, chroma, angle), angle = 6 * hue * chroma in [-chroma, 5 chroma], and each
// channel is a clamped, folded ramp over the angle:
//
//   red    min + clamp(|angle - 3 chroma| - chroma, 0, chroma)
//   green  min + clamp(2 chroma - |angle - 2 chroma|, 0, chroma)
//   blue   min + clamp(|angle - chroma| - chroma, 0, chroma)
//
// |angle - chroma| and not |angle - 4 chroma| in blue, since the angle does not reach 6 chroma.
template <class T>
class Hue {
 public:
  SSLK_INLINE explicit Hue(T turns) : shift_(turns < 0 ? turns * 6 + 6 : turns * 6) {}

  SSLK_INLINE void apply(Vec<T>& r, Vec<T>& g, Vec<T>& b) const {
    const Pixel p = take_apart(r, g, b);
    const Vec<T> low = p.least - p.chroma;
    r = clamp(absolute(p.angle - p.chroma * T(3)) + low, p.least, p.most);
    g = clamp(p.chroma * T(2) + p.least - absolute(p.angle - p.chroma * T(2)), p.least, p.most);
    b = clamp(absolute(p.angle - p.chroma) + low, p.least, p.most);
  }

  SSLK_INLINE void reverse(Vec<T> r, Vec<T> g, Vec<T> b, Vec<T>& dr, Vec<T>& dg, Vec<T>& db) const {
    const Pixel p = take_apart(r, g, b);
    Slopes s = {};
    // fold = |angle - n chroma|; red and blue rise with it from least - chroma, green falls.
    s.ramp(p, p.angle - p.chroma * T(3), T(3), T(1), T(-1), dr);
    s.ramp(p, p.angle - p.chroma * T(2), T(2), T(-1), T(2), dg);
    s.ramp(p, p.angle - p.chroma, T(1), T(1), T(-1), db);
    Vec<T> to_least = dr + dg + db - s.most;  // the rest begins at or stays there

    // angle = chroma * turn + the difference of two channels
    s.chroma += s.angle * p.turn;
    s.most += s.chroma;
    to_least -= s.chroma;
    const Vec<T> zero = {};
    const auto red = r == p.most, green = g == p.most;  // green only where not red
    dr = red ? zero : green ? -s.angle : s.angle;
    dg = red ? s.angle : green ? zero : -s.angle;
    db = red ? -s.angle : green ? s.angle : zero;
    share(r, g, b, p.most, s.most, dr, dg, db);
    share(r, g, b, p.least, to_least, dr, dg, db);
  }

 private:
  struct Pixel {
    Vec<T> most, least, chroma, angle, turn;
  };

  // Gradients of these.
  struct Slopes {
    Vec<T> most, chroma, angle;

    // Through clamp(sign * |x| + height * chroma + least, least, most), x = angle - n * chroma.
    SSLK_INLINE void ramp(const Pixel& p, Vec<T> x, T n, T sign, T height, Vec<T> gradient) {
      const Vec<T> zero = {};
      const Vec<T> value = absolute(x) * sign + (p.chroma * height + p.least);
      most += value > p.most ? gradient : zero;
      const Vec<T> inside = (value >= p.least) & (value <= p.most) ? gradient : zero;
      const Vec<T> slope = negated_as(x, inside) * sign;
      angle += slope;
      chroma += inside * height - slope * n;
    }
  };

  SSLK_INLINE Pixel take_apart(Vec<T> r, Vec<T> g, Vec<T> b) const {
    Pixel p;
    // A channel that is NaN makes the pixel NaN: blue through most, green through least, red
    // through the difference, which then is one with red.
    p.most = larger(larger(r, g), b);
    p.least = smaller(smaller(b, r), g);
    p.chroma = p.most - p.least;
    const auto red = r == p.most, green = g == p.most;
    p.turn = red ? broadcast(shift_) : green ? broadcast(shift_ + 2) : broadcast(shift_ + 4);
    const Vec<T> difference = red ? g - b : green ? b - r : r - g;
    p.angle = p.chroma * p.turn + difference;
    const auto over = p.angle > p.chroma * T(5);
    p.angle = over ? p.angle - p.chroma * T(6) : p.angle;
    p.turn = over ? p.turn - T(6) : p.turn;
    return p;
  }

  // The gradient of the largest or smallest channel, in equal parts where several are.
  SSLK_INLINE static void share(Vec<T> r, Vec<T> g, Vec<T> b, Vec<T> extreme, Vec<T> gradient,
                                Vec<T>& dr, Vec<T>& dg, Vec<T>& db) {
    const Vec<T> zero = {}, one = broadcast(T(1));
    const auto red = r == extreme, green = g == extreme, blue = b == extreme;
    const Vec<T> count = (red ? one : zero) + (green ? one : zero) + (blue ? one : zero);
    const Vec<T> several = count == T(2) ? broadcast(T(0.5)) : broadcast(T(1) / T(3));
    const Vec<T> part = gradient * (count == one ? one : several);
    dr += red ? part : zero;
    dg += green ? part : zero;
    db += blue ? part : zero;
  }

  T shift_;  // in sixths of a turn, in [0, 6)
};

}  // namespace sslk::augment
