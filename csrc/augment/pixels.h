// Pixels in memory, of any dtype and layout, to and from rows of floats.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "../rows.h"
#include "lanes.h"

namespace sslk::augment {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

enum class PixelType { kUint8, kFloat32, kFloat64, kBFloat16, kFloat16 };

SSLK_HOST_DEVICE constexpr int64_t pixel_bytes(PixelType type) {
  return type == PixelType::kUint8     ? 1
         : type == PixelType::kFloat32 ? 4
         : type == PixelType::kFloat64 ? 8
                                       : 2;
}

// Calls f with a value of the pixels' type.
template <class F>
SSLK_HOST_DEVICE decltype(auto) with_pixel_type(PixelType type, F&& f) {
  switch (type) {
    case PixelType::kUint8:
      return f(uint8_t{});
    case PixelType::kFloat64:
      return f(double{});
    case PixelType::kBFloat16:
      return f(BFloat16{});
    case PixelType::kFloat16:
      return f(Float16{});
    default:
      return f(float{});
  }
}

SSLK_HOST_DEVICE inline float to_real(uint8_t x) { return x; }
SSLK_HOST_DEVICE inline float to_real(float x) { return x; }
SSLK_HOST_DEVICE inline double to_real(double x) { return x; }
SSLK_HOST_DEVICE inline float to_real(BFloat16 x) { return bfloat16_to_float(x.bits); }
SSLK_HOST_DEVICE inline float to_real(Float16 x) { return float16_to_float(x.bits); }

template <class S, class T>
SSLK_HOST_DEVICE S from_real(T x) {
  if constexpr (std::is_same_v<S, BFloat16>)
    return {float_to_bfloat16(float(x))};
  else if constexpr (std::is_same_v<S, Float16>)
    return {float_to_float16(float(x))};
  else
    return S(x);
}

// A vector of pixels that lie side by side.
template <class T, class S>
SSLK_INLINE Vec<T> load_pixels(const S* p) {
  if constexpr (std::is_same_v<S, T>) return load(p);
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    if constexpr (std::is_same_v<S, uint8_t>) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      return as<Vec<T>>(
          _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepu8_epi32(0xffff, bytes)));
    } else if constexpr (!std::is_same_v<S, double>) {
      const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
      if constexpr (std::is_same_v<S, Float16>)
        return as<Vec<T>>(_mm512_maskz_cvtph_ps(0xffff, halves));
      else
        return as<Vec<T>>(
            _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, halves), 16));
    }
  }
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) {
    if constexpr (std::is_same_v<S, uint8_t>) {
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
      return as<Vec<T>>(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)));
    } else if constexpr (!std::is_same_v<S, double>) {
      const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      if constexpr (std::is_same_v<S, Float16>)
        return as<Vec<T>>(_mm256_cvtph_ps(halves));
      else
        return as<Vec<T>>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
    }
  }
#endif
  Vec<T> v;
  for (int lane = 0; lane < kLanes<T>; ++lane) v[lane] = T(to_real(p[lane]));
  return v;
}

// Rounded to nearest, ties to even; NaN stays NaN.
template <class S, class T>
SSLK_INLINE void store_pixels(S* p, Vec<T> v) {
  if constexpr (std::is_same_v<S, T>) return store(p, v);
  if constexpr (std::is_same_v<T, float> && std::is_same_v<S, BFloat16>) {
    const auto bits = as<Vec<uint32_t>>(v);
    const auto up = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const auto halves = v == v ? up : Vec<uint32_t>{} + 0x7fc0;
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_maskz_cvtepi32_epi16(0xffff, as<__m512i>(halves)));
#else
    for (int lane = 0; lane < kLanes<T>; ++lane) p[lane].bits = uint16_t(halves[lane]);
#endif
    return;
  }
#if defined(__F16C__)
  if constexpr (std::is_same_v<T, float> && std::is_same_v<S, Float16>) {
#if defined(__AVX512F__)
    const __m256i halves = _mm512_maskz_cvtps_ph(0xffff, as<__m512>(v), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves);
#else
    const __m128i halves = _mm256_cvtps_ph(as<__m256>(v), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), halves);
#endif
    return;
  }
#endif
  for (int lane = 0; lane < kLanes<T>; ++lane) p[lane] = from_real<S>(T(v[lane]));
}

// n pixels, step apart, to floats. Reads no pixel outside.
template <class T, class S>
SSLK_INLINE void read_pixels(const S* from, int64_t step, int64_t n, T* to) {
  if (step != 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = T(to_real(from[i * step]));
    return;
  }
  if (n < kLanes<T>) {
    for (int64_t i = 0; i < n; ++i) to[i] = T(to_real(from[i]));
    return;
  }
  for (int64_t i = 0; i + kLanes<T> <= n; i += kLanes<T>) store(to + i, load_pixels<T>(from + i));
  const int64_t rest = n - kLanes<T>;  // the last vector overlaps the one before
  store(to + rest, load_pixels<T>(from + rest));
}

// One or many images. Strides are counted in pixels.
struct Layout {
  PixelType type = PixelType::kFloat32;
  int64_t image = 0, channel = 0, row = 0, column = 0;

  static Layout of(PixelType type, int64_t channels, int64_t height, int64_t width, bool last) {
    const int64_t area = height * width;
    if (last) return {type, channels * area, 1, width * channels, channels};
    return {type, channels * area, area, width, 1};
  }
};

}  // namespace sslk::augment
