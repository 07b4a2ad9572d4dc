// The rows of the AMX kernel of cross_pass.h: operands of the logits and of dK, and dQ.
#pragma once

#ifdef SSLK_ISA_AMX

#include <cstring>
#include <vector>

#include "../workspace.h"
#include "amx.h"
#include "amx_digits.h"
#include "amx_rows.h"
#include "amx_tiles.h"
#include "cross_amx_tiles.h"
#include "cross_pass.h"

namespace sslk::amx {

template <int Parts>
class CrossRows {
 public:
  CrossRows(const Logits& problem, const KeptRows& kept, Purpose purpose)
      : p_(problem),
        kept_(kept),
        groups_((kept.count() + kGroup - 1) / kGroup),
        depth_((problem.d + 31) / 32),
        logit_depth_(logit_depth<Parts>(problem.d)),
        purpose_(purpose) {}

  size_t bytes() const {
    const size_t forward =
        Workspace::padded<bf16>(logit_operand()) + Workspace::padded<float>(groups_ * kGroup);
    if (purpose_ == Purpose::kLogits) return forward;
    return forward + Workspace::padded<float>(elements()) + Workspace::padded<bf16>(values());
  }
  void place(Workspace& workspace) {
    b_ = workspace.take<bf16>(logit_operand());
    units_ = workspace.take<float>(groups_ * kGroup);
    if (purpose_ == Purpose::kLogits) return;
    dq_ = workspace.take<float>(elements());
    v_ = workspace.take<bf16>(values());
  }
  void pack(int64_t g) const {
    const void* rows[32];
    for (int r = 0; r < 32; ++r) rows[r] = input(g * kGroup + r);
    if constexpr (digit_scores(Parts)) {
      pack_digits(rows, g);
      if (!with_values()) return;
    }
    alignas(64) bf16 part[Parts][2 * kTileElements];
    for (int64_t k = 0; k < depth_; ++k) {
      split_block<Parts>(p_.dtype, rows, k * 32, p_.d, 0, part);
      for (int s = 0; s < Parts; ++s) {
        for (int half = 0; half < 2; ++half) {
          if constexpr (!digit_scores(Parts)) {
            transpose(part[s] + half * kTileElements, logit_tile(g, half, k, s));
          }
          if (!with_values()) continue;
          interleave_rows(
              part[s], half,
              v_ + ((2 * k + half) * groups_ + g) * kCrossTile<Parts> + s * kTileElements);
        }
      }
    }
  }
  int64_t units(int64_t) const { return depth_; }
  double finish(int64_t g, const LogitGradients<float>& out) const {
    std::vector<float> buffer(kGroup * depth_ * 32 + 16);
    float* rows = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(buffer.data()) + 63) &
                                           ~uintptr_t(63));
    const int64_t width = depth_ * 32;
    alignas(64) float turned[kCTileElements];
    for (int64_t d = 0; d < 2 * depth_; ++d) {
      for (int u = 0; u < 2; ++u) {
        transpose(dq(d / 2, g) + (d % 2 * 2 + u) * kCTileElements, turned);
        for (int place = 0; place < 16; ++place) {
          const int r = interleaved_column(u, place);
          std::memcpy(rows + r * width + d * 16, turned + place * 16, 64);
        }
      }
    }
    const __m512 factor = _mm512_set1_ps(float(out.row_factor(p_)));
    double dots = 0;
    for (int r = 0; r < kGroup && g * kGroup + r < kept_.count(); ++r) {
      const void* q = input(g * kGroup + r);
      const int64_t i = kept_.index[g * kGroup + r];
      void* target = static_cast<char*>(out.dq) + i * p_.d * element_size(out.dtype);
      __m512 dot = _mm512_setzero_ps();
      for (int64_t d = 0; d < p_.d; d += 16) {
        const __mmask16 mask = tail_mask(d, p_.d);
        const __m512 x = _mm512_load_ps(rows + r * width + d);
        dot = _mm512_fmadd_ps(load16(p_.dtype, q, d, mask), x, dot);
        store16(out.dtype, target, d, mask, _mm512_mul_ps(x, factor));
      }
      dots += _mm512_reduce_add_ps(dot);
    }
    return dots;
  }

  // Group g as B operand of the logits, from step k on.
  Operand scores(int64_t g, int64_t k) const {
    return {logit_tile(g, 0, k, 0), logit_tile(g, 1, k, 0), kCrossTile<Parts>};
  }
  // What products with the group after g will stream through.
  ReadAhead scores_after(int64_t g) const {
    if (g + 1 >= groups_) return {};
    return {scores(g + 1, 0), logit_depth_};
  }
  const float* digit_units(int64_t g) const { return units_ + g * kGroup; }  // of digits
  // Features 32 d.. as B operand of W^T Q, from group g on.
  Operand values(int64_t d, int64_t g) const {
    return {v_ + (2 * d * groups_ + g) * kCrossTile<Parts>,
            v_ + ((2 * d + 1) * groups_ + g) * kCrossTile<Parts>, kCrossTile<Parts>};
  }
  // What products of a band with the features after 32 d.. will stream through.
  ReadAhead values_after(int64_t d, const Band& band) const {
    if (d + 1 >= depth_) return {};
    return {values(d + 1, band.begin), band.groups()};
  }
  // Features 32 d.. of group g of dQ, transposed: 2 x 2 C tiles.
  float* dq(int64_t d, int64_t g) const { return dq_ + (d * groups_ + g) * 4 * kCTileElements; }

 private:
  void pack_digits(const void* const (&rows)[32], int64_t g) const {
    const DigitRows source(rows, p_.d, units_ + g * kGroup);
    DigitBlock block;
    for (int64_t k = 0; k < logit_depth_; ++k) {
      source.split(k * kDigitDepth, 0, block);
      for (int s = 0; s < kDigits; ++s) {
        transpose(block.digit[s], logit_tile(g, 0, k, s));
        transpose(block.digit[s] + kTileElements, logit_tile(g, 1, k, s));
      }
    }
  }
  bf16* logit_tile(int64_t g, int half, int64_t k, int s) const {
    return b_ + ((2 * g + half) * logit_depth_ + k) * kCrossTile<Parts> + s * kTileElements;
  }
  int64_t logit_operand() const { return 2 * groups_ * logit_depth_ * kCrossTile<Parts>; }
  int64_t elements() const { return groups_ * kGroup * depth_ * 32; }
  bool with_values() const { return purpose_ == Purpose::kBothGradients; }
  int64_t values() const { return with_values() ? elements() * Parts : 0; }
  const void* input(int64_t r) const {
    if (r >= kept_.count()) return nullptr;
    return static_cast<const char*>(p_.q) + kept_.index[r] * p_.d * element_size(p_.dtype);
  }

  const Logits& p_;
  const KeptRows& kept_;
  int64_t groups_, depth_, logit_depth_;
  Purpose purpose_;
  bf16* b_ = nullptr;
  float* units_ = nullptr;
  bf16* v_ = nullptr;
  float* dq_ = nullptr;
};

}  // namespace sslk::amx

#endif  // SSLK_ISA_AMX
