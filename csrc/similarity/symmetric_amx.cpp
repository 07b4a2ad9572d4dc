// The symmetric similarity softmax on the AMX tile unit: every score is computed once in the
// forward and once in the backward, upper triangle only, and serves its row and its column.
//
// The matrix is cut into stripes of rows; a pair of stripes is the unit of work (parallel.h).
// Within a pair, 32 x 32 score tiles leave the tile unit for L1, and their exponentials are
// computed between the tile products of the next one: the two units then work at the same time.
#ifdef SSLK_ISA_AMX

#include "symmetric_amx.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../parallel.h"
#include "../rows.h"
#include "../workspace.h"
#include "amx.h"
#include "amx_panels.h"
#include "amx_tiles.h"
#include "row_stat.h"

namespace sslk::amx {
namespace {

// ---- one problem ----------------------------------------------------------------------------

// Scores are sums of Parts bfloat16 parts of Z; the weights W and the values Z that they multiply
// have ValueParts. The positive pair, which a trained encoder's gradient hangs on, stays out of W
// and is added in float32: what is left in W are many terms with independent roundings.
template <int Parts, int ValueParts>
class SymmetricKernel {
 public:
  explicit SymmetricKernel(const Symmetric& problem)
      : problem_(problem),
        m_(problem.views.rows()),
        c_(float(problem.scale * kLog2E)),
        panels_(m_, problem.views.d),
        stripe_(m_ <= 1024 ? 4 : 8) {}

  bool forward(const SymmetricForward<float>& out) {
    const int64_t padded = panels_.groups * kGroup;
    Workspace workspace(panels_.bytes(false) + 2 * Workspace::padded<float>(padded));
    panels_.place(workspace, false);
    row_sum_ = workspace.take<float>(padded);
    positive_ = workspace.take<float>(padded);
    std::fill(row_sum_, row_sum_ + padded, 0.0f);
    std::fill(positive_, positive_ + padded, 0.0f);
    if (!pack<true>(out.inv_norm)) return false;
    tournament([&](int64_t, int64_t i, int64_t j) { forward_pair(i, j); });
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RowStat stat{row_sum_[i], positive_[i]};
        out.row_stat[i] = stat.negatives;
        out.row_stat[m_ + i] = stat.positive;
        out.rows[i] = float(stat.loss(problem_));
      }
    });
    return true;
  }

  bool backward(const SymmetricBackward<float>& out) {
    const int64_t padded = panels_.groups * kGroup;
    const int64_t accumulator = padded * panels_.depth * 32;
    const int64_t weights = stripe_ * stripe_ * 2 * ValueParts * kTileElements;
    const int workers = thread_count();
    Workspace workspace(panels_.bytes(true) + 2 * Workspace::padded<float>(padded) +
                        Workspace::padded<float>(panels_.groups) +
                        2 * Workspace::padded<float>(accumulator) +
                        2 * workers * Workspace::padded<bf16>(weights));
    panels_.place(workspace, true);
    row_factor_ = workspace.take<float>(padded);
    positive_ = workspace.take<float>(padded);
    float* dots = workspace.take<float>(panels_.groups);
    dz_ = workspace.take<float>(accumulator);
    dz_transposed_ = workspace.take<float>(accumulator);
    std::vector<bf16*> weights_a(workers), weights_b(workers);
    for (int w = 0; w < workers; ++w) {
      weights_a[w] = workspace.take<bf16>(weights);
      weights_b[w] = workspace.take<bf16>(weights);
    }
    if (!pack<false>(const_cast<float*>(out.inv_norm))) return false;
    std::fill(row_factor_ + m_, row_factor_ + padded, 0.0f);
    parallel_ranges(m_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const RowStat stat = RowStat::read(problem_, out, i);
        row_factor_[i] = float(out.grad[i] / stat.sum(problem_));
        positive_[i] = float(out.grad[i] * stat.slope(problem_));
      }
    });
    tournament([&](int64_t worker, int64_t i, int64_t j) {
      backward_pair(i, j, weights_a[worker], weights_b[worker]);
    });
    parallel_ranges(panels_.groups, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) dots[g] = finish_group(out, g);
    });
    double sum = 0;
    for (int64_t g = 0; g < panels_.groups; ++g) sum += dots[g];
    *out.dscale = float(0.5 * sum);  // every score is counted from both its rows
    return true;
  }

 private:
  using Sums = ExpSums<Parts>;
  using TileWeights = Weights<ValueParts>;

  // Fills the panels; false when scores may be too large for the shared exponential.
  template <bool Forward>
  bool pack(float* inv_norm) {
    switch (problem_.views.dtype) {
      case Dtype::kFloat32:
        return pack_as<Dtype::kFloat32, Forward>(inv_norm);
      case Dtype::kBFloat16:
        return pack_as<Dtype::kBFloat16, Forward>(inv_norm);
      default:
        return pack_as<Dtype::kFloat16, Forward>(inv_norm);
    }
  }

  template <Dtype T, bool Forward>
  bool pack_as(float* inv_norm) {
    if (problem_.normalize && c_ > kLargestExponent<float>) return false;
    const int64_t width = panels_.depth * 32;
    std::atomic<float> largest{problem_.normalize ? 1.0f : 0.0f};
    parallel_ranges(panels_.groups, [&](int64_t begin, int64_t end) {
      std::vector<float> buffer(32 * width + 16);
      float* rows =
          reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(buffer.data()) + 63) & ~63);
      float here = 0;
      for (int64_t g = begin; g < end; ++g) {
        here = std::max(here, load_group<T, Forward>(problem_, g, width, rows, inv_norm));
        pack_group(panels_, g, rows);
        if (!Forward) {
          std::memset(dz_ + g * kGroup * width, 0, kGroup * width * sizeof(float));
          std::memset(dz_transposed_ + g * kGroup * width, 0, kGroup * width * sizeof(float));
        }
      }
      float seen = largest.load();
      while (seen < here && !largest.compare_exchange_weak(seen, here)) {
      }
    });
    return c_ * largest.load() <= kLargestExponent<float>;
  }

  // Plays all pairs of stripes, each worker with its tile registers configured.
  template <class Play>
  void tournament(Play&& play) {
    std::vector<std::unique_ptr<TileSession>> sessions(thread_count());
    const Tournament tournament((panels_.groups + stripe_ - 1) / stripe_);
    tournament.run([&](int64_t worker) { sessions[worker] = std::make_unique<TileSession>(); },
                   play, [&](int64_t worker) { sessions[worker].reset(); });
  }

  int64_t stripe_end(int64_t s) const { return std::min((s + 1) * stripe_, panels_.groups); }

  // Tiles that hold a self pair, a positive pair or the ragged end need masks.
  bool is_special(int64_t gi, int64_t gj) const {
    const int64_t distance = std::abs(gj - gi) * kGroup;
    if (gi == gj) return true;
    if (problem_.views.paired() && std::abs(distance - problem_.views.n) < kGroup) return true;
    return m_ % kGroup != 0 && std::max(gi, gj) == panels_.groups - 1;
  }
  // Bit b says whether column 32 gj + b is a negative of row i.
  uint32_t negatives(int64_t i, int64_t gj) const {
    if (i >= m_) return 0;
    const int64_t first = gj * kGroup;
    uint32_t mask = m_ - first >= kGroup ? ~0u : (1u << (m_ - first)) - 1;
    if (problem_.exclude_self) mask &= ~bit(i - first);
    return mask & ~bit(problem_.views.partner(i) - first);
  }
  static uint32_t bit(int64_t b) { return b >= 0 && b < kGroup ? 1u << b : 0u; }

  // ---- forward ----

  void forward_pair(int64_t stripe_i, int64_t stripe_j) {
    alignas(64) float scores[2][kGroup * kGroup];
    Sums work;
    work.c = _mm512_set1_ps(c_);
    for (auto& sum : work.rows) sum = _mm512_setzero_ps();
    int64_t previous_i = -1, previous_j = -1;
    int current = 0;
    bool special = false;

    auto finish = [&](bool strip_ends) {
      if (previous_i < 0) return;
      while (work.pair < 16) work.step();
      if (!special) {
        float* sums = row_sum_ + previous_j * kGroup;
        _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), work.column0));
        _mm512_storeu_ps(sums + 16, _mm512_add_ps(_mm512_loadu_ps(sums + 16), work.column1));
      }
      if (!strip_ends) return;
      for (int r = 0; r < kGroup; ++r) {
        row_sum_[previous_i * kGroup + r] += _mm512_reduce_add_ps(work.rows[r]);
        work.rows[r] = _mm512_setzero_ps();
      }
    };

    for (int64_t gi = stripe_i * stripe_; gi < stripe_end(stripe_i); ++gi) {
      const int64_t first_j = stripe_i == stripe_j ? gi : stripe_j * stripe_;
      for (int64_t gj = first_j; gj < stripe_end(stripe_j); ++gj) {
        zero_accumulators();
        multiply<Parts>(panels_.rows_of(panels_.a, gi), panels_.rows_of(panels_.b, gj),
                        int(panels_.depth), [&] { work.step(); });
        store_accumulators(scores[current], 16 * kGroup, 16, kGroup * sizeof(float));
        finish(previous_i != gi);
        previous_i = gi;
        previous_j = gj;
        special = is_special(gi, gj);
        if (special) {
          special_sums(gi, gj, scores[current], work);
        } else {
          work.begin(scores[current]);
        }
        current ^= 1;
      }
    }
    finish(true);
  }

  void special_sums(int64_t gi, int64_t gj, const float* scores, Sums& work) {
    __m512 column0 = _mm512_setzero_ps(), column1 = column0;
    for (int r = 0; r < kGroup; ++r) {
      const int64_t i = gi * kGroup + r;
      if (i >= m_) break;
      const float* row = scores + r * kGroup;
      const uint32_t mask = negatives(i, gj);
      const __m512 x0 = _mm512_load_ps(row), x1 = _mm512_load_ps(row + 16);
      const __m512 e0 =
          _mm512_maskz_mov_ps(__mmask16(mask), exp2_scaled<Sums::kDegree>(x0, work.c));
      const __m512 e1 =
          _mm512_maskz_mov_ps(__mmask16(mask >> 16), exp2_scaled<Sums::kDegree>(x1, work.c));
      work.rows[r] = _mm512_add_ps(work.rows[r], _mm512_add_ps(e0, e1));
      column0 = _mm512_add_ps(column0, e0);
      column1 = _mm512_add_ps(column1, e1);
      const int64_t partner = problem_.views.partner(i);
      if (bit(partner - gj * kGroup)) {
        positive_[i] = positive_[partner] = row[partner - gj * kGroup];
      }
    }
    if (gi == gj) return;  // its rows hold both triangles
    float* sums = row_sum_ + gj * kGroup;
    _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), column0));
    _mm512_storeu_ps(sums + 16, _mm512_add_ps(_mm512_loadu_ps(sums + 16), column1));
  }

  // ---- backward ----

  void backward_pair(int64_t stripe_i, int64_t stripe_j, bf16* weights_a, bf16* weights_b) {
    alignas(64) float scores[2][kGroup * kGroup];
    const int64_t begin_i = stripe_i * stripe_, end_i = stripe_end(stripe_i);
    const int64_t begin_j = stripe_j * stripe_, end_j = stripe_end(stripe_j);
    const bool diagonal = stripe_i == stripe_j;  // only its tiles with gi <= gj are computed
    const int64_t step = ValueParts * kTileElements;
    const int64_t row_step = stripe_ * step;  // of 16 rows of W, in either form

    TileWeights work;
    work.c = _mm512_set1_ps(c_);
    int current = 0;
    for (int64_t gi = begin_i; gi < end_i; ++gi) {
      for (int64_t gj = diagonal ? gi : begin_j; gj < end_j; ++gj) {
        zero_accumulators();
        multiply<Parts>(panels_.rows_of(panels_.a, gi), panels_.rows_of(panels_.b, gj),
                        int(panels_.depth), [&] { work.step(); });
        store_accumulators(scores[current], 16 * kGroup, 16, kGroup * sizeof(float));
        while (work.pair < 16) work.step();
        const int64_t i = gi - begin_i, j = gj - begin_j;
        work.tile = scores[current];
        work.row_factor = row_factor_ + gi * kGroup;
        work.column_factor0 = _mm512_loadu_ps(row_factor_ + gj * kGroup);
        work.column_factor1 = _mm512_loadu_ps(row_factor_ + gj * kGroup + 16);
        work.a0 = weights_a + 2 * i * row_step + j * step;
        work.a1 = work.a0 + row_step;
        work.b0 = weights_b + 2 * j * row_step + i * step;
        work.b1 = work.b0 + row_step;
        work.pair = 0;
        if (is_special(gi, gj)) special_weights(gi, gj, work);
        current ^= 1;
      }
    }
    while (work.pair < 16) work.step();

    const int64_t tiles_d = 2 * panels_.depth;
    const auto no_slot = [] {};
    for (int64_t gi = begin_i; gi < end_i; ++gi) {
      const int64_t first = diagonal ? gi : begin_j;
      const bf16* w = weights_a + 2 * (gi - begin_i) * row_step + (first - begin_j) * step;
      for (int64_t d = 0; d < panels_.depth; ++d) {
        float* target = dz_ + (gi * 2 * tiles_d + 2 * d) * kCTileElements;
        load_accumulators(target, tiles_d * kCTileElements, kCTileElements, 64);
        multiply<ValueParts>({w, w + row_step, step}, panels_.columns_of(panels_.v, first, d),
                             int(end_j - first), no_slot);
        store_accumulators(target, tiles_d * kCTileElements, kCTileElements, 64);
      }
    }
    for (int64_t gj = begin_j; gj < end_j; ++gj) {
      const int64_t end = diagonal ? gj : end_i;  // the diagonal tile has served both sides
      if (end == begin_i) continue;
      const bf16* w = weights_b + 2 * (gj - begin_j) * row_step;
      for (int64_t d = 0; d < panels_.depth; ++d) {  // C rows are D, C columns are rows of dZ
        float* target = dz_transposed_ + (gj * 2 * tiles_d + 2 * d) * kCTileElements;
        load_accumulators(target, kCTileElements, tiles_d * kCTileElements, 64);
        multiply<ValueParts>(panels_.columns_of(panels_.t, begin_i, d), {w, w + row_step, step},
                             int(end - begin_i), no_slot);
        store_accumulators(target, kCTileElements, tiles_d * kCTileElements, 64);
      }
    }
  }

  void special_weights(int64_t gi, int64_t gj, TileWeights& work) {
    for (; work.pair < 16; ++work.pair) {
      __m512 w[2][2];
      for (int k = 0; k < 2; ++k) {
        const int64_t r = 2 * work.pair + k;
        const uint32_t mask = negatives(gi * kGroup + r, gj);
        const float* row = work.tile + r * kGroup;
        const __m512 factor = _mm512_set1_ps(work.row_factor[r]);
        const __m512 e0 = exp2_scaled<TileWeights::kDegree>(_mm512_load_ps(row), work.c);
        const __m512 e1 = exp2_scaled<TileWeights::kDegree>(_mm512_load_ps(row + 16), work.c);
        const __m512 both0 = _mm512_add_ps(factor, work.column_factor0);
        const __m512 both1 = _mm512_add_ps(factor, work.column_factor1);
        w[k][0] = _mm512_maskz_mul_ps(__mmask16(mask), e0, both0);
        w[k][1] = _mm512_maskz_mul_ps(__mmask16(mask >> 16), e1, both1);
      }
      work.write(w);
    }
  }

  // dZ = scale W Z of 32 rows, through the normalisation; returns the sum of <z_i, (W Z)_i>.
  float finish_group(const SymmetricBackward<float>& out, int64_t g) {
    switch (problem_.views.dtype) {
      case Dtype::kFloat32:
        return finish_group_as<Dtype::kFloat32>(out, g);
      case Dtype::kBFloat16:
        return finish_group_as<Dtype::kBFloat16>(out, g);
      default:
        return finish_group_as<Dtype::kFloat16>(out, g);
    }
  }

  template <Dtype T>
  float finish_group_as(const SymmetricBackward<float>& out, int64_t g) {
    const int64_t tiles_d = 2 * panels_.depth;
    const Views& views = problem_.views;
    float* sum = dz_ + g * 2 * tiles_d * kCTileElements;
    const float* other = dz_transposed_ + g * 2 * tiles_d * kCTileElements;
    alignas(64) float turned[kCTileElements];
    for (int u = 0; u < 2; ++u) {
      for (int64_t d = 0; d < tiles_d; ++d) {
        transpose(other + (u * tiles_d + d) * kCTileElements, turned);
        for (int place = 0; place < 16; ++place) {
          const int r = 8 * (place / 4) + 4 * u + place % 4;
          float* row = sum + ((r / 16) * tiles_d + d) * kCTileElements + (r % 16) * 16;
          _mm512_store_ps(row,
                          _mm512_add_ps(_mm512_load_ps(row), _mm512_load_ps(turned + place * 16)));
        }
      }
    }
    const __m512 scale = _mm512_set1_ps(float(problem_.scale));
    double dots = 0;
    for (int r = 0; r < kGroup; ++r) {
      const int64_t i = g * kGroup + r;
      if (i >= m_) break;
      float* row = sum + (r / 16) * tiles_d * kCTileElements + (r % 16) * 16;
      const void* input = view_row(views, i);
      if (views.paired()) add_positive<T>(out, i, row);
      const float inv_norm = problem_.normalize ? out.inv_norm[i] : 1.0f;
      __m512 dot = _mm512_setzero_ps();
      for (int64_t d = 0; d < tiles_d; ++d) {
        const __m512 x = load16<T>(input, d * 16, tail_mask(d * 16, views.d));
        dot = _mm512_fmadd_ps(_mm512_load_ps(row + d * kCTileElements), x, dot);
      }
      const float along = _mm512_reduce_add_ps(dot) * inv_norm;  // <(W Z)_i, z_i>
      dots += along;
      // Below the epsilon the norm is a constant and nothing is projected out.
      const bool projected = problem_.normalize && inv_norm < float(1.0 / kNormEpsilon);
      const __m512 remove = _mm512_set1_ps(projected ? along * inv_norm : 0.0f);
      const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(inv_norm));
      void* target = view_row(views, out.dz1, out.dz2, i);
      for (int64_t d = 0; d < tiles_d; ++d) {
        const __mmask16 mask = tail_mask(d * 16, views.d);
        const __m512 x = load16<T>(input, d * 16, mask);
        const __m512 dz = _mm512_fnmadd_ps(remove, x, _mm512_load_ps(row + d * kCTileElements));
        store16<T>(target, d * 16, mask, _mm512_mul_ps(factor, dz));
      }
    }
    return float(dots);
  }

  // The positive pair's share of (W Z)_i: (g_i (p_ij - 1) + g_j (p_ji - 1)) z_j.
  template <Dtype T>
  void add_positive(const SymmetricBackward<float>& out, int64_t i, float* row) {
    const Views& views = problem_.views;
    const int64_t j = views.partner(i);
    const void* input = view_row(views, j);
    const float inv_norm = problem_.normalize ? out.inv_norm[j] : 1.0f;
    const __m512 weight = _mm512_set1_ps((positive_[i] + positive_[j]) * inv_norm);
    for (int64_t d = 0; d < 2 * panels_.depth; ++d) {
      const __m512 x = load16<T>(input, d * 16, tail_mask(d * 16, views.d));
      float* at = row + d * kCTileElements;
      _mm512_store_ps(at, _mm512_fmadd_ps(weight, x, _mm512_load_ps(at)));
    }
  }

  const Symmetric& problem_;
  const int64_t m_;
  const float c_;  // exp(score) = 2^(c_ <z_i, z_j>)
  Panels<Parts, ValueParts> panels_;
  const int64_t stripe_;            // groups in a stripe
  float* row_sum_ = nullptr;        // forward: sum over the negatives of exp(s_ij)
  float* positive_ = nullptr;       // forward: <z_i, z_partner>; backward: g_i (p_i,partner - 1)
  float* row_factor_ = nullptr;     // backward: g_i / l_i
  float* dz_ = nullptr;             // W Z in C tiles [M / 16][D / 16]
  float* dz_transposed_ = nullptr;  // what columns add to it, each tile transposed
};

// bfloat16 holds 8 bits: float16's 11 take two parts, float32's 24 three. The weights of float32 do
// with two, 17 bits, where a row's gradient is a sum over many of them whose roundings average out:
// in a large batch, at a temperature that does not leave all of the softmax to a few. There the
// error was measured at 0.4 to 1.6 times that of the dense float32 loss (docs/numerics.md).
bool weights_average_out(const Symmetric& problem) {
  return problem.views.rows() >= 2048 && problem.scale <= 20.0;
}

template <class Call>
bool with_parts(const Symmetric& problem, Call&& call) {
  const Dtype dtype = problem.views.dtype;
  const bool whole = dtype == Dtype::kFloat32;
  if (dtype == Dtype::kBFloat16 || (whole && problem.precision == Precision::kMedium)) {
    return call(SymmetricKernel<1, 1>(problem));
  }
  if (whole && problem.precision == Precision::kHighest) {
    if (weights_average_out(problem)) return call(SymmetricKernel<3, 2>(problem));
    return call(SymmetricKernel<3, 3>(problem));
  }
  return call(SymmetricKernel<2, 2>(problem));
}

}  // namespace

bool symmetric_forward(const Symmetric& problem, const SymmetricForward<float>& out) {
  return with_parts(problem, [&](auto&& kernel) { return kernel.forward(out); });
}

bool symmetric_backward(const Symmetric& problem, const SymmetricBackward<float>& out) {
  return with_parts(problem, [&](auto&& kernel) { return kernel.backward(out); });
}

}  // namespace sslk::amx

#endif  // SSLK_ISA_AMX
