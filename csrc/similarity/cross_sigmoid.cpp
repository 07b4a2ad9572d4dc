#include "cross_sigmoid.h"

#include <vector>

#include "cross_kernels.h"
#include "cross_steps.h"

namespace sslk {
namespace {

// log(1 + u) for u in [0, 1], with a relative error of 1e-7 (1e-16) however small u is.
template <class T>
SSLK_INLINE Vec<T> log1p_of_fraction(Vec<T> u) {
  if constexpr (sizeof(T) == 8) {  // 2 atanh(z), z = u / (2 + u) in [0, 1/3]
    const Vec<T> z = u / (T(2) + u), square = z * z;
    Vec<T> p = broadcast(T(1.0 / 35));
    for (int n = 33; n > 0; n -= 2) p = p * square + T(1) / T(n);
    return T(2) * z * p;
  }
  Vec<T> p = broadcast(T(0.00536482409f)) * u + T(-0.0300657917f);  // minimax, exactly u near 0
  p = p * u + T(0.079204537f);
  p = p * u + T(-0.137538031f);
  p = p * u + T(0.191536546f);
  p = p * u + T(-0.248571634f);
  p = p * u + T(0.33321324f);
  p = p * u + T(-0.499996483f);
  p = p * u + T(1);
  return p * u;
}

// log(1 + q) for q >= 0, with the same relative error.
template <class T>
SSLK_INLINE Vec<T> log1p_of_product(Vec<T> q) {
  constexpr int kMantissa = sizeof(T) == 8 ? 52 : 23;
  const auto of_one = reinterpret_cast<Vec<Bits<T>>>(broadcast(T(1)));
  const auto bits = reinterpret_cast<Vec<Bits<T>>>(T(1) + q);
  const auto exponent = (bits - of_one) >> kMantissa;
  const Vec<T> mantissa = reinterpret_cast<Vec<T>>(bits - (exponent << kMantissa));
  const Vec<T> fraction = exponent == 0 ? q : mantissa - T(1);
  constexpr T kLn2 = T(1 / kLog2E);
  const Vec<T> whole = __builtin_convertvector(exponent, Vec<T>) * kLn2;
  return whole + log1p_of_fraction<T>(fraction) + (q - q);  // NaN for what is not finite
}

// Sums of lanes, in double from block to block.
template <class T>
struct LaneTotals {
  double lanes[kLanes<T>] = {};

  void add(Vec<T> x) {
    T values[kLanes<T>];
    store(values, x);
    for (int lane = 0; lane < kLanes<T>; ++lane) lanes[lane] += values[lane];
  }
  double total() const {
    double all = 0;
    for (double lane : lanes) all += lane;
    return all;
  }
};

// From products to losses, which it sums up, and to their derivatives, which are the weights.
template <class T, class Store>
class SigmoidWeights : public WeightSteps<T, Store, SigmoidWeights<T, Store>> {
  using Steps = WeightSteps<T, Store, SigmoidWeights<T, Store>>;

 public:
  explicit SigmoidWeights(const LogitMap<T>& map) : scale_(map.scale) {}

  // bias: of each row of the group, times log2(e).
  void begin(const Block<T>& block, const Marked& marked, const T* bias, const Store& store) {
    flush();
    this->start(block, store);
    for (int h = 0; h < 2; ++h) bias_[h] = load(bias + h * kLanes<T>);
    if (!this->is_plain(marked)) take_marked(marked);
  }
  SSLK_INLINE Vec<T> weigh(int c, int h) { return weigh_logit(logit(c, h), h); }

  // After the last block: sum of the losses, and of their derivatives by the logits.
  double loss() {
    flush();
    return losses_.total();
  }
  double slope() {
    flush();
    return slopes_.total();
  }

 private:
  SSLK_INLINE T* at(int c, int h) const { return this->block_.row(c) + h * kLanes<T>; }
  SSLK_INLINE Vec<T> logit(int c, int h) const { return load(at(c, h)) * scale_ + bias_[h]; }
  SSLK_INLINE Vec<T> weigh_logit(Vec<T> y, int h) {
    constexpr T kLn2 = T(1 / kLog2E);
    const Vec<T> zero{}, one = broadcast(T(1));
    const Vec<T> u = exp2_or_zero<T>(y > 0 ? -y : y);
    loss_ += (y > 0 ? y : zero) * kLn2;
    product_[h] += u + product_[h] * u;
    const Vec<T> g = (y > 0 ? one : u) * reciprocal<T>(one + u);
    slope_ += g;
    return g;
  }
  // A pair's loss is that of the negated logit, and its derivative so too.
  void take_marked(const Marked& marked) {
    constexpr int kRows = kGroupRows<T>;
    const Block<T>& block = this->block_;
    for (int c = 0; c < kBlockColumns; ++c) {
      for (int h = 0; h < 2; ++h) store(at(c, h), logit(c, h));
    }
    marked.template each_target<kRows>(
        block.first, [&](int r, int64_t c) { block.row(c)[r] = -block.row(c)[r]; });
    this->finish_at_once([&](int c, int h) { return weigh_logit(load(at(c, h)), h); },
                         [&](auto&& weight) {
                           marked.template each_target<kRows>(block.first, [&](int r, int64_t c) {
                             T& g = weight(r, c);
                             slopes_.lanes[0] -= 2 * double(g);
                             g = -g;
                           });
                         });
  }
  void flush() {
    for (Vec<T>& product : product_) {
      loss_ += log1p_of_product<T>(product);
      product = Vec<T>{};
    }
    losses_.add(loss_);
    slopes_.add(slope_);
    loss_ = slope_ = Vec<T>{};
  }

  const T scale_;
  Vec<T> bias_[2];
  Vec<T> loss_{}, slope_{};
  // The product of 1 + u over the columns of a block, less 1, which leaves small u their digits:
  // one logarithm serves 32 logits. A factor is at most 2.
  Vec<T> product_[2] = {};
  LaneTotals<T> losses_, slopes_;
};

// Where weights go that nobody wants.
struct Nowhere {
  template <class G>
  SSLK_INLINE void put(int, const G&) const {}
};

// What is summed over the columns of one part or chunk.
struct Sums {
  double loss, slope;
};

template <class T, class Store>
struct SigmoidColumns {
  SigmoidWeights<T, Store> sink;
  const std::vector<T>& bias;
  Sums& sums;

  void begin(int64_t, const Block<T>& block, const Marked& marked, int64_t at, Store store = {}) {
    sink.begin(block, marked, bias.data() + at, store);
  }
  void take_turn(int64_t, int64_t) const {}
  void close(int64_t, int64_t) { sums = {sink.loss(), sink.slope()}; }
};

// The bias of every row, times log2(e).
template <class T, class Pass>
std::vector<T> row_bias(const Pass& pass, double bias) {
  std::vector<T> rows(pass.padded_rows(), kAbsent<T>);
  std::fill_n(rows.begin(), pass.kept().count(), T(bias * kLog2E));
  return rows;
}

}  // namespace

template <class Acc>
void sigmoid_forward(const Logits& problem, double bias, double weight, Acc* value) {
  with_pass<Acc>(problem, [&](const auto& pass) {
    const auto rows = row_bias<Acc>(pass, bias);
    std::vector<Sums> sums(pass.forward_parts());
    pass.scan([&](int64_t part) {
      return SigmoidColumns<Acc, Nowhere>{SigmoidWeights<Acc, Nowhere>(pass.map()), rows,
                                          sums[part]};
    });
    double loss = 0;
    for (const Sums& each : sums) loss += each.loss;
    *value = Acc(weight * loss);
  });
}

template <class Acc>
void sigmoid_forward_backward(const Logits& problem, double bias, Acc* value, Acc* dbias,
                              const LogitGradients<Acc>& out) {
  with_pass<Acc>(problem, [&](const auto& pass) {
    using Store = typename std::decay_t<decltype(pass)>::Store;
    const auto rows = row_bias<Acc>(pass, bias);
    std::vector<Sums> sums(pass.backward_chunks());
    pass.weigh(
        [&](int64_t chunk) {
          return SigmoidColumns<Acc, Store>{SigmoidWeights<Acc, Store>(pass.map()), rows,
                                            sums[chunk]};
        },
        out);
    double loss = 0, slope = 0;
    for (const Sums& each : sums) loss += each.loss, slope += each.slope;
    *value = Acc(out.weight * loss);
    *dbias = Acc(out.weight * slope);
  });
}

#define SSLK_INSTANTIATE(T)                                         \
  template void sigmoid_forward(const Logits&, double, double, T*); \
  template void sigmoid_forward_backward(const Logits&, double, T*, T*, const LogitGradients<T>&);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
