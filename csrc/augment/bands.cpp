#include "bands.h"

#include <algorithm>
#include <cmath>

namespace sslk::augment {

int64_t transposed_resize_taps(int64_t inputs, int64_t outputs) {
  const double scale = double(inputs) / double(outputs);
  const double reach = (std::max(1.0, scale) + 1) / scale;  // to each side, in outputs
  return std::min(outputs, int64_t(2 * reach) + 3);
}

namespace {

// Inputs rise or fall with outputs, so that the ends of a block show its range.
template <class T>
void find_ranges(Bands<T>& bands) {
  bands.widest = 0;
  for (int64_t b = 0; b < bands.blocks(); ++b) {
    const int64_t left = b * kLanes<T>, right = left + kLanes<T> - 1;
    bands.base[b] = std::min(bands.first[left], bands.first[right]);
    bands.reach[b] = std::max(bands.last[left], bands.last[right]) - bands.base[b] + 1;
    bands.widest = std::max(bands.widest, bands.reach[b]);
  }
}

}  // namespace

template <class T>
void fill_resize(Bands<T>& bands, bool flipped, T weight_scale) {
  using V = Vec<T>;
  const ResizeAxis<T> axis(bands.inputs, bands.outputs);
  const Index<T> outputs = Index<T>(bands.outputs), taps = Index<T>(bands.taps);
  for (int64_t b = 0; b < bands.blocks(); ++b) {
    Vec<Index<T>> output = lane_numbers<T>() + Index<T>(b * kLanes<T>);
    output = output < outputs - 1 ? output : Vec<Index<T>>{} + (outputs - 1);
    const auto window = axis.window(output, flipped);
    T* const weights = bands.weights + b * taps * kLanes<T>;
    V total = {};
    for (Index<T> t = 0; t < taps; ++t) {
      const V weight = axis.weight(window, t);
      total += weight;
      store(weights + t * kLanes<T>, weight);
    }
    const V normalise = broadcast(weight_scale) / total;
    for (Index<T> t = 0; t < taps; ++t) {
      store(weights + t * kLanes<T>, load(weights + t * kLanes<T>) * normalise);
    }
    store(bands.first + b * kLanes<T>, window.first);
    store(bands.last + b * kLanes<T>, window.first + window.count - 1);
  }
  find_ranges(bands);
}

template <class T>
void fill_transpose(Bands<T>& transposed, const Bands<T>& bands) {
  const int64_t padded = transposed.blocks() * kLanes<T>;
  std::fill_n(transposed.first, padded, Index<T>(bands.outputs));
  std::fill_n(transposed.last, padded, Index<T>(0));
  // Of the outputs that take an input the first and the last, whatever their order.
  for (int64_t o = bands.outputs - 1; o >= 0; --o) {
    for (int64_t i = bands.first[o]; i <= bands.last[o]; ++i) transposed.first[i] = Index<T>(o);
  }
  for (int64_t o = 0; o < bands.outputs; ++o) {
    for (int64_t i = bands.first[o]; i <= bands.last[o]; ++i) transposed.last[i] = Index<T>(o);
  }
  int64_t taps = 1;
  for (int64_t i = 0; i < padded; ++i) {
    const int64_t row = std::min(i, transposed.outputs - 1);
    transposed.first[i] = std::min(transposed.first[row], transposed.last[row]);
    transposed.last[i] = transposed.last[row];
    taps = std::max<int64_t>(taps, transposed.last[i] - transposed.first[i] + 1);
  }
  transposed.taps = taps;
  std::fill_n(transposed.weights, padded * taps, T(0));
  for (int64_t o = 0; o < bands.outputs; ++o) {
    for (int64_t i = bands.first[o]; i <= bands.last[o]; ++i) {
      const int64_t t = o - transposed.first[i];
      transposed.weights[((i / kLanes<T>)*taps + t) * kLanes<T> + i % kLanes<T>] =
          bands.weight(o, i - bands.first[o]);
    }
  }
  find_ranges(transposed);
}

template void fill_resize(Bands<float>&, bool, float);
template void fill_resize(Bands<double>&, bool, double);
template void fill_transpose(Bands<float>&, const Bands<float>&);
template void fill_transpose(Bands<double>&, const Bands<double>&);

}  // namespace sslk::augment
