// The end of the way: normalisation, and pixels in the views' dtype and layout.
#pragma once

#include "interleave.h"
#include "pixels.h"
#include "strip.h"

namespace sslk::augment {

// Stores that do not read the line first; p is aligned to the vector.
template <class S, class T>
SSLK_INLINE void stream_pixels(S* p, Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<S, float> && std::is_same_v<T, float>) {
    return _mm512_stream_ps(p, as<__m512>(v));
  } else if constexpr (sizeof(S) * kLanes<T> == 32) {
    alignas(32) S pixels[kLanes<T>];
    store_pixels<S, T>(pixels, v);
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(p),
                               _mm256_load_si256(reinterpret_cast<const __m256i*>(pixels)));
  }
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<S, float> && std::is_same_v<T, float>) {
    return _mm256_stream_ps(p, as<__m256>(v));
  }
#endif
  store_pixels<S, T>(p, v);
}
inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// One view of one image in memory.
struct Target {
  void* data = nullptr;
  Layout layout;
  int64_t height = 0, width = 0, channels = 0;
  bool stream = false;  // every row begins on a cache line and fills whole ones
};

// What is altogether larger than this is not written through the caches.
constexpr int64_t kCachedBytes = int64_t(4) << 20;

inline bool streams(const Target& target) {
  const Layout& layout = target.layout;
  return layout.column == 1 && target.width * pixel_bytes(layout.type) % 64 == 0 &&
         reinterpret_cast<uintptr_t>(target.data) % 64 == 0;
}

// x * scale + shift for each channel.
template <class T>
struct Normalisation {
  const T* scale;
  const T* shift;
};

template <class S, class T, class F>
SSLK_INLINE void store_run(int64_t n, S* out, bool stream, F&& value) {
  if (stream) {
    for (int64_t i = 0; i < n; i += kLanes<T>) stream_pixels<S, T>(out + i, value(i));
    return;
  }
  if (n < kLanes<T>) {
    S pixels[kLanes<T>];
    store_pixels<S, T>(pixels, value(0));
    std::copy_n(pixels, n, out);
    return;
  }
  for (int64_t i = 0; i + kLanes<T> <= n; i += kLanes<T>) store_pixels<S, T>(out + i, value(i));
  const int64_t rest = n - kLanes<T>;  // the last vector overlaps the one before
  store_pixels<S, T>(out + rest, value(rest));
}

// Three channels side by side.
template <class S, class T>
SSLK_INLINE void store_joined(const T* in, int64_t plane, int64_t n, const Normalisation<T>& by,
                              S* out) {
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    Vec<T> r = load(in + i) * by.scale[0] + by.shift[0];
    Vec<T> g = load(in + plane + i) * by.scale[1] + by.shift[1];
    Vec<T> b = load(in + 2 * plane + i) * by.scale[2] + by.shift[2];
    join<T>(r, g, b);
    S last[3 * kLanes<T>];
    const bool whole = i + kLanes<T> <= n;
    S* const to = whole ? out + 3 * i : last;
    store_pixels<S, T>(to, r);
    store_pixels<S, T>(to + kLanes<T>, g);
    store_pixels<S, T>(to + 2 * kLanes<T>, b);
    if (!whole) std::copy_n(last, 3 * (n - i), out + 3 * i);
  }
}

// Rows that follow each other on both sides are one run.
template <class T>
struct Runs {
  int64_t count, length;

  Runs(const Strip<T>& strip, const Target& target) : count(strip.rows), length(strip.width) {
    if (strip.stride == strip.width && target.layout.row == strip.width) {
      count = 1;
      length = strip.count();
    }
  }
};

// As store_strip, with a stage on the way, whose work hides the time that stores take. The target
// has its channels apart, and a row has at least one vector.
template <class S, class T, class Stage>
SSLK_INLINE void store_strip_by(const Strip<T>& strip, int64_t row, const Normalisation<T>& by,
                                const Target& target, const Stage& stage) {
  const Runs<T> runs(strip, target);
  const bool stream = target.stream;
  const int64_t in_plane = strip.plane, out_plane = target.layout.channel;
  Vec<T> scale[3], shift[3];
  for (int c = 0; c < 3; ++c) scale[c] = broadcast(by.scale[c]), shift[c] = broadcast(by.shift[c]);
  for (int64_t y = 0; y < runs.count; ++y) {
    const T* const in = strip.row(0, y);
    S* const out = static_cast<S*>(target.data) + (row + y) * target.layout.row;
    for (int64_t at = 0; at < runs.length; at += kLanes<T>) {
      const int64_t i = std::min(at, runs.length - kLanes<T>);  // the last overlaps the one before
      Vec<T> x[3];
      for (int c = 0; c < 3; ++c) x[c] = load(in + c * in_plane + i);
      stage(x[0], x[1], x[2]);
      for (int c = 0; c < 3; ++c) {
        S* const to = out + c * out_plane + i;
        const Vec<T> value = x[c] * scale[c] + shift[c];
        if (stream) {
          stream_pixels<S, T>(to, value);
        } else {
          store_pixels<S, T>(to, value);
        }
      }
    }
  }
}

// A strip to rows of the view, the first of them `row`.
template <class S, class T>
SSLK_INLINE void store_strip(const Strip<T>& strip, int64_t row, const Normalisation<T>& by,
                             const Target& target) {
  const Layout& layout = target.layout;
  S* const out = static_cast<S*>(target.data) + row * layout.row;
  if (layout.column == 3 && strip.channels == 3) {
    for (int64_t y = 0; y < strip.rows; ++y) {
      store_joined<S, T>(strip.row(0, y), strip.plane, strip.width, by, out + y * layout.row);
    }
    return;
  }
  const Runs<T> runs(strip, target);
  const int64_t n = runs.length;
  for (int64_t c = 0; c < strip.channels; ++c) {
    const T scale = by.scale[c], shift = by.shift[c];
    for (int64_t y = 0; y < runs.count; ++y) {
      const T* const in = strip.row(c, y);
      S* const to = out + c * layout.channel + y * layout.row;
      const auto value = [&](int64_t i) { return load(in + i) * scale + shift; };
      if (layout.column == 1) {
        store_run<S, T>(n, to, target.stream, value);
      } else {
        for (int64_t i = 0; i < n; ++i) {
          to[i * layout.column] = from_real<S>(T(in[i] * scale + shift));
        }
      }
    }
  }
}

}  // namespace sslk::augment
