// In one pass where one shift of the exponents serves all logits: exponentials are the weights of
// keys, and the sum of a row divides them at the end. Otherwise the lse first.
#include "fixed_keys.h"

#include <limits>
#include <vector>

#include "cross_kernels.h"
#include "cross_range.h"
#include "cross_steps.h"

namespace sslk {
namespace {

// From products to exponentials, which are the weights; sums those of each row.
template <class T, class Store>
class ExpWeights : public WeightSteps<T, Store, ExpWeights<T, Store>> {
 public:
  ExpWeights(const LogitMap<T>& map, T shift) : scale_(map.scale), shift_(shift) {}

  // present: 0, or kAbsent.
  void begin(const Block<T>& block, const T* present, T* row_sums, const Store& store) {
    flush();
    this->start(block, store);
    row_sums_ = row_sums;
    for (int h = 0; h < 2; ++h) present_[h] = load(present + h * kLanes<T>);
    if (block.columns == kBlockColumns) return;
    this->finish_at_once([&](int c, int h) { return weigh(c, h); }, [](auto&&) {});
  }
  SSLK_INLINE Vec<T> weigh(int c, int h) {
    const Vec<T> product = load(this->block_.row(c) + h * kLanes<T>);
    const Vec<T> y = product * scale_ + (present_[h] + this->block_.bias[c]);
    const Vec<T> e = exp2_or_zero<T>(y, shift_);
    sum_[h] += e;
    return e;
  }
  // Adds what is left to the sums of the last block's rows.
  void flush() {
    for (int h = 0; h < 2 && row_sums_ != nullptr; ++h) {
      T* at = row_sums_ + h * kLanes<T>;
      store(at, load(at) + sum_[h]);
      sum_[h] = Vec<T>{};
    }
    row_sums_ = nullptr;
  }

 private:
  const T scale_, shift_;
  T* row_sums_ = nullptr;
  Vec<T> present_[2], sum_[2] = {};
};

template <class T, class Store>
struct ExpChunk {
  ExpWeights<T, Store> sink;
  const T* present;
  double* totals;
  alignas(64) T row_sums[kBandRows] = {};

  void begin(int64_t, const Block<T>& block, const Marked&, int64_t at, const Store& store) {
    sink.begin(block, present + at, row_sums + at % kBandRows, store);
  }
  void take_turn(int64_t at, int64_t count) {
    sink.flush();
    for (int64_t r = 0; r < count; ++r) totals[at + r] += row_sums[r];
    std::fill_n(row_sums, kBandRows, T(0));
  }
  void close(int64_t, int64_t) const {}
};

template <class T>
constexpr Dtype kDtypeOf = sizeof(T) == 8 ? Dtype::kFloat64 : Dtype::kFloat32;

double largest_bias(const Logits& p) {
  double largest = p.bias == nullptr ? 0 : -HUGE_VAL;
  for (int64_t j = 0; j < p.n && p.bias != nullptr; ++j) {
    const double bias = p.dtype == Dtype::kFloat64 ? static_cast<const double*>(p.bias)[j]
                                                   : static_cast<const float*>(p.bias)[j];
    if (!(bias <= largest)) largest = bias;  // also NaN, which then stays
  }
  return largest * kLog2E;
}

// False when one shift does not do for all; then the results are not complete.
template <class Kernel, class T = typename Kernel::Scalar>
bool in_one_pass(const CrossPass<Kernel>& pass, const Logits& p, T* lse, T* mean_key) {
  using Store = typename Kernel::Store;
  const double norm = largest_norm(p.k, p.dtype, p.n, p.d);
  const double bound = largest_logit(p, norm) + largest_bias(p);
  // Keys of ordinary size stay so when exponentials multiply them.
  if (!(norm > 1e-6 && norm < 1e6 && std::abs(bound) < 2 * kRange<T>)) return false;
  const T shift = T(std::floor(kRange<T> / 2 - bound));
  std::vector<double> sums(pass.padded_rows(), 0.0);
  std::vector<T> present(pass.padded_rows(), kAbsent<T>);
  std::fill_n(present.begin(), p.m, T(0));
  T dscale;
  pass.weigh(
      [&](int64_t) { return ExpChunk<T, Store>{{pass.map(), shift}, present.data(), sums.data()}; },
      {mean_key, nullptr, kDtypeOf<T>, &dscale, nullptr, /*of_products=*/true});
  const double least = least_sum<T>(double(p.n));
  for (int64_t i = 0; i < p.m; ++i) {
    if (!(sums[i] >= least && sums[i] < HUGE_VAL)) return false;
    lse[i] = T(log_shifted(sums[i], double(shift)));
  }
  parallel_ranges(p.m, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T factor = T(1 / sums[i]);
      for (int64_t k = 0; k < p.d; ++k) mean_key[i * p.d + k] *= factor;
    }
  });
  return true;
}

}  // namespace

template <class Acc>
void fixed_keys_forward(const Logits& problem, Acc* lse, Acc* mean_key) {
  bool done = false;
  with_pass<Acc>(problem,
                 [&](const auto& pass) { done = in_one_pass(pass, problem, lse, mean_key); });
  if (done) return;
  cross_forward<Acc>(problem, {lse});
  const std::vector<Acc> ones(problem.m, Acc(1));
  Acc dscale;
  cross_backward<Acc>(problem, lse, {ones.data()},
                      {mean_key, nullptr, kDtypeOf<Acc>, &dscale, nullptr, /*of_products=*/true});
}

#define SSLK_INSTANTIATE(T) template void fixed_keys_forward(const Logits&, T*, T*);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
