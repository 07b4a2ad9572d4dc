#include "mask_tokens.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <vector>

#include "../parallel.h"
#include "../philox.h"

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
    const int64_t offset = row * p_.length;
    ids_ = p_.input_ids + offset;
    masked_ = p_.masked_ids + offset;
    labels_ = p_.labels + offset;
    attention_ = p_.attention_mask ? p_.attention_mask + offset : nullptr;
    words_ = p_.word_ids ? p_.word_ids + offset : nullptr;
    sequence_ = uint64_t(p_.sequence_ids[row]);
    std::copy_n(ids_, p_.length, masked_);
    std::fill_n(labels_, p_.length, p_.ignore_index);
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
    return philox_block(p_.seed, stream, sequence_, uint32_t(index));
  }

  bool maskable(int64_t i) const {
    return (!attention_ || attention_[i]) && (!words_ || words_[i] >= 0) &&
           !std::binary_search(p_.special_ids, p_.special_ids + p_.special_count, ids_[i]);
  }

  void select(int64_t i, uint32_t fate, uint32_t choice) {
    labels_[i] = ids_[i];
    if (fate < p_.replace_below) {
      masked_[i] = Id(p_.mask_token_id);
    } else if (fate < p_.random_below) {
      masked_[i] = ordinary_id(choice);
    }
  }

  // The id with as many ordinary ones before it as the draw says.
  Id ordinary_id(uint32_t choice) const {
    const int64_t rank = philox_below(choice, uint32_t(p_.vocab_size - p_.special_count));
    int64_t low = 0, high = p_.special_count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (p_.special_ids[middle] - middle <= rank) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return Id(rank + low);
  }

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
      if (words_[i] != word) {
        word = words_[i];
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
    left_ = (n * p_.select_below + draw(Stream::kMaskBudget, 0).word[0]) >> 32;
    const int64_t units = int64_t(unit_begin_.size()) - 1;
    taken_.assign(size_t(units), 0);
    for (int64_t t = 0; t < n && left_ > 0; ++t) {
      const PhiloxBlock span = draw(Stream::kMaskSpan, t);
      const int64_t first = unit_[maskable_[philox_below(span.word[0], uint32_t(n))]];
      const int64_t longer =
          std::upper_bound(p_.longer_from, p_.longer_from + p_.longer_count, span.word[1]) -
          p_.longer_from;
      for (int64_t u = first; u < std::min(first + 1 + longer, units); ++u) {
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
      if (i == 0 || !words_ || words_[i] != words_[i - 1]) unit_begin_.push_back(i);
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
    for (int64_t i = 0; i < p_.length; ++i) inside &= ids_[i] >= 0 && ids_[i] < p_.vocab_size;
    return inside;
  }

  const MaskTokens<Id>& p_;
  const Id* ids_ = nullptr;
  Id* masked_ = nullptr;
  int64_t* labels_ = nullptr;
  const bool* attention_ = nullptr;
  const int64_t* words_ = nullptr;
  uint64_t sequence_ = 0;

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
