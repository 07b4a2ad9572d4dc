#include "mask_tokens.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "../parallel.h"
#include "token.h"

namespace sslk {
namespace {

// Draws are made for this many tokens at once: straight loops that the compiler vectorises.
constexpr int64_t kTile = 64;

// One row of the batch. Buffers are kept from row to row.
template <class Id>
class Sequence {
 public:
  explicit Sequence(const MaskTokens<Id>& problem) : p_(problem) {}

  // False when an id lies outside the vocabulary.
  bool mask(int64_t row) {
    row_ = MaskRow<Id>::of(p_, row);
    std::copy_n(row_.ids, p_.length, row_.masked);
    std::fill_n(row_.labels, p_.length, p_.ignore_index);
    switch (p_.strategy) {
      case MaskStrategy::kToken:
        by_token();
        break;
      case MaskStrategy::kWholeWord:
        by_word();
        break;
      case MaskStrategy::kSpan:
        by_span();
        break;
    }
    return ids_inside();
  }

 private:
  PhiloxBlock draw(Stream stream, int64_t index) const {
    return philox_block(p_.seed, stream, row_.sequence, uint32_t(index));
  }
  bool maskable(int64_t i) const { return row_.maskable(p_, i); }
  void select(int64_t i, uint32_t fate, uint32_t choice) { row_.select(p_, i, fate, choice); }

  void by_token() {
    uint32_t selection[kTile], fate[kTile], choice[kTile];
    for (int64_t begin = 0; begin < p_.length; begin += kTile) {
      for (int64_t t = 0; t < kTile; ++t) {
        const PhiloxBlock b = draw(Stream::kMaskToken, begin + t);
        selection[t] = b.word[0];
        fate[t] = b.word[1];
        choice[t] = b.word[2];
      }
      const int64_t tokens = std::min(kTile, p_.length - begin);
      for (int64_t t = 0; t < tokens; ++t) {
        if (selection[t] < p_.select_below && maskable(begin + t)) {
          select(begin + t, fate[t], choice[t]);
        }
      }
    }
  }

  void by_word() {
    int64_t word = -1;
    bool selected = false;
    for (int64_t i = 0; i < p_.length; ++i) {
      if (row_.words[i] != word) {
        word = row_.words[i];
        selected = word >= 0 && draw(Stream::kMaskWord, word).word[0] < p_.select_below;
      }
      if (selected && maskable(i)) {
        const PhiloxBlock own = draw(Stream::kMaskToken, i);
        select(i, own.word[1], own.word[2]);
      }
    }
  }

  void by_span() {
    find_units();
    const int64_t n = int64_t(maskable_.size());
    left_ = row_.budget(n, p_.select_below);
    const int64_t units = int64_t(unit_begin_.size()) - 1;
    taken_.assign(size_t(units), 0);
    for (int64_t t = 0; t < n && left_ > 0; ++t) {
      const PhiloxBlock span = draw(Stream::kMaskSpan, t);
      const int64_t first = unit_[maskable_[philox_below(span.word[0], uint32_t(n))]];
      const int64_t end = first + 1 + p_.units_beyond_first(span.word[1]);
      for (int64_t u = first; u < std::min(end, units); ++u) {
        take(u, span.word[2]);
      }
    }
    if (left_ == 0) return;
    const uint32_t fate = draw(Stream::kMaskSpan, n).word[2];
    for (int64_t u = 0; u < units; ++u) take(u, fate);
  }

  // Lists the maskable positions, and the units with the first position of each.
  void find_units() {
    maskable_.clear();
    unit_begin_.clear();
    unit_.resize(size_t(p_.length));
    for (int64_t i = 0; i < p_.length; ++i) {
      if (i == 0 || !row_.words || row_.words[i] != row_.words[i - 1]) unit_begin_.push_back(i);
      unit_[i] = int64_t(unit_begin_.size()) - 1;
      if (maskable(i)) maskable_.push_back(i);
    }
    unit_begin_.push_back(p_.length);
  }

  // Selects what is maskable in a unit that nobody took before, as far as the budget goes.
  void take(int64_t unit, uint32_t fate) {
    if (taken_[unit]) return;
    taken_[unit] = 1;
    for (int64_t i = unit_begin_[unit]; i < unit_begin_[unit + 1] && left_ > 0; ++i) {
      if (!maskable(i)) continue;
      select(i, fate, draw(Stream::kMaskToken, i).word[2]);
      --left_;
    }
  }

  bool ids_inside() const {
    bool inside = true;
    for (int64_t i = 0; i < p_.length; ++i)
      inside &= row_.ids[i] >= 0 && row_.ids[i] < p_.vocab_size;
    return inside;
  }

  const MaskTokens<Id>& p_;
  MaskRow<Id> row_ = {};

  // Of spans alone.
  std::vector<int64_t> maskable_, unit_, unit_begin_;
  std::vector<char> taken_;
  int64_t left_ = 0;  // of the budget
};

}  // namespace

template <class Id>
bool mask_tokens(const MaskTokens<Id>& problem) {
  std::atomic<bool> inside{true};
  parallel_ranges(problem.batch, [&](int64_t begin, int64_t end) {
    Sequence<Id> sequence(problem);
    for (int64_t row = begin; row < end; ++row) {
      if (!sequence.mask(row)) inside.store(false, std::memory_order_relaxed);
    }
  });
  return inside;
}

template bool mask_tokens(const MaskTokens<int32_t>&);
template bool mask_tokens(const MaskTokens<int64_t>&);

}  // namespace sslk
