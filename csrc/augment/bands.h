// Matrices whose rows hold a few neighbouring weights: resizing is one on each axis, and so is its
// transpose, which the backward needs.
#pragma once

#include <cstdint>

#include "../workspace.h"
#include "window.h"

namespace sslk::augment {

// Output i is the sum over t of weight(i, t) * input[first[i] + t]. Rows are padded to whole
// vectors by repeating the last; weights beyond last[i] are zero, and their inputs must not be
// used, since they may be NaN.
template <class T>
struct Bands {
  int64_t inputs = 0, outputs = 0;
  int64_t taps = 0;  // the most weights that a row has
  Index<T>* first = nullptr;
  Index<T>* last = nullptr;
  T* weights = nullptr;       // [block of kLanes outputs][taps][kLanes]
  Index<T>* base = nullptr;   // [block]: its smallest input
  Index<T>* reach = nullptr;  // [block]: its largest input - base + 1
  Index<T> widest = 0;        // of all reaches

  int64_t blocks() const { return (outputs + kLanes<T> - 1) / kLanes<T>; }
  T weight(int64_t i, int64_t t) const {
    return weights[((i / kLanes<T>)*taps + t) * kLanes<T> + i % kLanes<T>];
  }
};

// The most weights in a row of the transpose of a resize.
int64_t transposed_resize_taps(int64_t inputs, int64_t outputs);

template <class T>
size_t bands_bytes(int64_t outputs, int64_t taps) {
  const int64_t blocks = (outputs + kLanes<T> - 1) / kLanes<T>, padded = blocks * kLanes<T>;
  return 2 * Workspace::padded<Index<T>>(padded) + Workspace::padded<T>(padded * taps) +
         2 * Workspace::padded<Index<T>>(blocks);
}
template <class T>
Bands<T> take_bands(Workspace& memory, int64_t inputs, int64_t outputs, int64_t taps) {
  Bands<T> bands;
  bands.inputs = inputs;
  bands.outputs = outputs;
  bands.taps = taps;
  const int64_t padded = bands.blocks() * kLanes<T>;
  bands.first = memory.take<Index<T>>(padded);
  bands.last = memory.take<Index<T>>(padded);
  bands.weights = memory.take<T>(padded * taps);
  bands.base = memory.take<Index<T>>(bands.blocks());
  bands.reach = memory.take<Index<T>>(bands.blocks());
  return bands;
}

// Antialiased linear interpolation as torch.nn.functional.interpolate has it, all weights times
// scale, outputs in reverse order where flipped.
template <class T>
void fill_resize(Bands<T>& bands, bool flipped, T scale);

// The transpose of a resize.
template <class T>
void fill_transpose(Bands<T>& transposed, const Bands<T>& bands);

}  // namespace sslk::augment
