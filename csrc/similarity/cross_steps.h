// What sinks that make weights from a block of products have in common: see cross_pass.h.
#pragma once

#include <cstdint>

#include "cross_blocks.h"

namespace sslk {

// Added to the logits of rows that only fill up a group.
template <class T>
constexpr T kAbsent = sizeof(T) == 8 ? T(-1e300) : T(-1e30);

// Goes through a block two columns at a time. Derived has weigh(c, h): the weights of column c of
// the block and the h-th vector of its rows.
template <class T, class Store, class Derived>
class WeightSteps {
 public:
  static constexpr int kSteps = kBlockColumns / 2;

  SSLK_INLINE void step() {
    if (step_ == kSteps) return;
    Vec<T> g[2][2];
    for (int k = 0; k < 2; ++k) {
      for (int h = 0; h < 2; ++h) g[k][h] = derived().weigh(2 * step_ + k, h);
    }
    store_.put(2 * step_, g);
    ++step_;
  }
  void drain() {
    while (step_ != kSteps) step();
  }

 protected:
  void start(const Block<T>& block, const Store& store) {
    block_ = block;
    store_ = store;
    step_ = 0;
  }
  bool is_plain(const Marked& marked) const {
    return block_.columns == kBlockColumns && !marked.any_in<kGroupRows<T>>(block_.first);
  }
  // The whole block at once, where single weights matter: weigh(c, h) as above, for the columns
  // that are there, then change(at), with at(row of the group, column of the block) a weight.
  template <class Weigh, class Change>
  void finish_at_once(Weigh&& weigh, Change&& change) {
    Vec<T> g[kBlockColumns][2] = {};
    for (int c = 0; c < block_.columns; ++c) {
      for (int h = 0; h < 2; ++h) g[c][h] = weigh(c, h);
    }
    change([&](int r, int64_t c) -> T& {
      return reinterpret_cast<T*>(&g[c][r / kLanes<T>])[r % kLanes<T>];
    });
    for (; step_ != kSteps; ++step_) {
      Vec<T> pair[2][2];
      for (int k = 0; k < 2; ++k) {
        for (int h = 0; h < 2; ++h) pair[k][h] = g[2 * step_ + k][h];
      }
      store_.put(2 * step_, pair);
    }
  }

  Block<T> block_{};
  Store store_{};

 private:
  Derived& derived() { return static_cast<Derived&>(*this); }

  int step_ = kSteps;
};

}  // namespace sslk
