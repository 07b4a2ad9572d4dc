// The passes over the implicit logits, for any kernel that multiplies blocks of them.
//
// Columns are cut into chunks, which threads take in order; rows into groups and bands of groups.
//   forward:  for each chunk, for each group: logits, added to the group's running terms
//   backward: for each chunk, for each band: weights of the chunk's columns and the band's rows in
//             scratch, then dK of the chunk (which has one owner) and dQ of the band (which takes
//             the chunks in order)
// So both operands are read once a pass, sums have one order whatever the threads, and scratch
// grows with neither the number of columns nor, beyond Q and dQ themselves, that of rows.
//
// A kernel multiplies and knows its operands' layouts:
//   Scalar, kForwardColumns and kBackwardColumns of a chunk, Store, Session
//   Rows{problem, kept rows, backward}:   bytes, place, pack(group), finish(group, ...) -> dot
//   Columns{problem, backward}:           bytes, place, load(first, count)
//     products(rows, group, place, sink, ready)  sink.step() runs between products; ready(block,
//                                         tile, stride) when a block is complete, sink drained
//     store(place, block, tile, stride)   where the weights of a block go; place: in its band
//     column_gradients(rows, band, ...)   dK += W^T Q of a band; after the last, to where it goes
//     units(), row_gradients(rows, band, unit)   dQ += W K, in parts that different threads may
//                                         work on at the same time
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <vector>

#include "../parallel.h"
#include "../rows.h"
#include "../workspace.h"
#include "cross.h"
#include "cross_blocks.h"

namespace sslk {

constexpr int64_t kBandRows = 1280;  // weights of a band and a chunk stay in the second-level cache

// Groups [begin, end) of rows whose weights are in scratch together.
struct Band {
  int64_t begin, end;
  bool first, last;

  int64_t groups() const { return end - begin; }
  bool only() const { return first && last; }
};

// The rows that count, in order, padded to groups.
struct KeptRows {
  std::vector<int64_t> index;

  explicit KeptRows(const Logits& problem) {
    index.reserve(problem.m);
    for (int64_t i = 0; i < problem.m; ++i) {
      if (problem.target == nullptr || problem.target[i] >= 0) index.push_back(i);
    }
  }
  int64_t count() const { return int64_t(index.size()); }
};

template <class Kernel>
class CrossPass {
  using T = typename Kernel::Scalar;
  using Rows = typename Kernel::Rows;
  using Columns = typename Kernel::Columns;
  static constexpr int64_t kGroup = kGroupRows<T>;
  static constexpr int64_t kForward = Kernel::kForwardColumns, kBackward = Kernel::kBackwardColumns;
  static constexpr int64_t kBandGroups = kBandRows / kGroup;
  static constexpr int64_t kForwardParts = 32;

 public:
  explicit CrossPass(const Logits& problem)
      : p_(problem),
        kept_(problem),
        groups_((kept_.count() + kGroup - 1) / kGroup),
        padded_(groups_ * kGroup),
        map_{T(problem.scale * kLog2E), T(problem.softcap * kLog2E)},
        marked_((1 + problem.excluded) * padded_, -1) {
    for (int64_t r = 0; r < kept_.count(); ++r) {
      const int64_t i = kept_.index[r];
      if (p_.target != nullptr) marked_[r] = int32_t(p_.target[i]);
      for (int64_t e = 0; e < p_.excluded; ++e) {
        const int64_t column = (i + p_.exclude[e]) % p_.n;
        marked_[(1 + e) * padded_ + r] = int32_t(column < 0 ? column + p_.n : column);
      }
    }
  }

  void forward(const LogitTerms<T>& out) {
    // Parts of the columns, each with running terms of its own: their number does not depend on
    // the threads, and so neither do the sums.
    const int64_t chunks = (p_.n + kForward - 1) / kForward;
    const int64_t parts = std::min(chunks, kForwardParts);
    const int workers = thread_count();
    Rows rows(p_, kept_, false);
    std::vector<Columns> columns(workers, Columns(p_, false));
    Workspace workspace(rows.bytes() + workers * columns[0].bytes() +
                        (3 * parts + 1) * Workspace::padded<T>(padded_));
    rows.place(workspace);
    for (Columns& each : columns) each.place(workspace);
    T* target = workspace.template take<T>(padded_);
    std::vector<RunningTerms<T>> running(parts);
    for (RunningTerms<T>& part : running) {
      part = {workspace.template take<T>(padded_), workspace.template take<T>(padded_),
              workspace.template take<T>(padded_), target};
    }
    pack(rows);
    std::atomic<int64_t> next{0};
    parallel_run(std::min<int64_t>(workers, parts), [&](int64_t worker) {
      typename Kernel::Session session;
      for (int64_t part; (part = next.fetch_add(1)) < parts;) {
        std::fill_n(running[part].maximum, padded_, RunningTerms<T>::kLowest);
        std::fill_n(running[part].sum, padded_, T(0));
        std::fill_n(running[part].weighted, padded_, T(0));
        forward_part(rows, columns[worker], chunks * part / parts, chunks * (part + 1) / parts,
                     running[part]);
      }
    });
    merge(running, out);
  }

  void backward(const T* lse, const TermGradients<T>& grad, const LogitGradients<T>& out) {
    const int workers = thread_count();
    const int64_t chunks = (p_.n + kBackward - 1) / kBackward;
    Rows rows(p_, kept_, true);
    std::vector<Columns> columns(workers, Columns(p_, true));
    Workspace workspace(rows.bytes() + workers * columns[0].bytes() +
                        4 * Workspace::padded<T>(padded_) + Workspace::padded<T>(groups_));
    rows.place(workspace);
    for (Columns& each : columns) each.place(workspace);
    T* upstream[4];
    for (T*& each : upstream) each = workspace.template take<T>(padded_);
    T* dots = workspace.template take<T>(groups_);
    gather(lse, grad, upstream);
    pack(rows);
    std::vector<Band> bands;
    if (groups_ == 0) bands.push_back({0, 0, true, true});
    for (int64_t g = 0; g < groups_; g += kBandGroups) {
      const int64_t end = std::min(groups_, g + kBandGroups);
      bands.push_back({g, end, g == 0, end == groups_});
    }
    Turns turns(int64_t(bands.size()) * rows.units(kBandGroups));
    std::atomic<int64_t> next{0};
    const int64_t tasks = std::min<int64_t>(workers, chunks);
    parallel_run(tasks, [&](int64_t worker) {
      typename Kernel::Session session;
      for (int64_t chunk; (chunk = next.fetch_add(1)) < chunks;) {
        backward_chunk(rows, columns[worker], chunk, bands, upstream, turns, out);
      }
    });
    clear_other_rows(out);
    parallel_ranges(groups_, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) dots[g] = rows.finish(g, out);
    });
    double sum = 0;
    for (int64_t g = 0; g < groups_; ++g) sum += dots[g];
    *out.dscale = T(sum);
  }

 private:
  void pack(Rows& rows) const {
    parallel_ranges(groups_, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) rows.pack(g);
    });
  }
  Marked marked(int64_t g) const {
    const int32_t* target = marked_.data() + g * kGroup;
    return {target, target + padded_, p_.excluded, padded_};
  }

  // What belongs to the columns of one chunk, past the end of the problem zero.
  template <int64_t kChunk>
  struct ChunkTerms {
    int64_t first, count, blocks;
    alignas(64) T bias[kChunk] = {};
    alignas(64) T weight[kChunk] = {};
    bool weighted;

    ChunkTerms(const Logits& p, int64_t chunk)
        : first(chunk * kChunk),
          count(std::min(kChunk, p.n - first)),
          blocks((count + kBlockColumns - 1) / kBlockColumns),
          weighted(p.column_weight != nullptr) {
      for (int64_t c = 0; c < count && p.bias != nullptr; ++c) {
        bias[c] = T(static_cast<const T*>(p.bias)[first + c] * kLog2E);
      }
      for (int64_t c = 0; c < count && weighted; ++c) {
        weight[c] = static_cast<const T*>(p.column_weight)[first + c];
      }
    }
    Block<T> block(int64_t b, T* tile, int64_t stride) const {
      const int64_t at = b * kBlockColumns;
      return {tile,       stride,
              first + at, std::min<int64_t>(kBlockColumns, count - at),
              bias + at,  weighted ? weight + at : nullptr};
    }
  };

  void forward_part(const Rows& rows, Columns& columns, int64_t begin, int64_t end,
                    const RunningTerms<T>& to) const {
    TermSums<T> sums(map_);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const ChunkTerms<kForward> terms(p_, chunk);
      columns.load(terms.first, terms.count);
      for (int64_t g = 0; g < groups_; ++g) {
        const int64_t at = g * kGroup;
        const RunningTerms<T> of_group{to.maximum + at, to.sum + at, to.weighted + at,
                                       p_.target == nullptr ? nullptr : to.target + at};
        columns.products(rows, g, 0, sums, [&](int64_t b, T* tile, int64_t stride) {
          sums.begin(terms.block(b, tile, stride), marked(g), of_group);
        });
      }
      sums.drain();
    }
  }

  void merge(const std::vector<RunningTerms<T>>& parts, const LogitTerms<T>& out) const {
    auto put = [](T* to, int64_t i, double x) {
      if (to != nullptr) to[i] = T(x);
    };
    const double ln2 = 1 / kLog2E;
    if (kept_.count() < p_.m) {
      for (T* each : {out.lse, out.target_logit, out.weighted_sum, out.largest}) {
        if (each != nullptr) std::fill_n(each, p_.m, T(0));
      }
    }
    parallel_ranges(kept_.count(), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t i = kept_.index[r];
        T maximum = RunningTerms<T>::kLowest;
        for (const auto& part : parts) maximum = std::max(maximum, part.maximum[r]);
        double sum = 0, weighted = 0;
        for (const auto& part : parts) {
          sum += double(part.sum[r]) * std::exp2(double(part.maximum[r]) - double(maximum));
          weighted += part.weighted[r];
        }
        put(out.lse, i, sum == 0 ? -HUGE_VAL : (maximum + std::log2(sum)) * ln2);
        put(out.largest, i, maximum == RunningTerms<T>::kLowest ? -HUGE_VAL : maximum * ln2);
        put(out.weighted_sum, i, weighted * ln2);
        put(out.target_logit, i, p_.target == nullptr ? 0.0 : parts[0].target[r] * ln2);
      }
    });
  }

  // The upstream gradients of the rows that count.
  void gather(const T* lse, const TermGradients<T>& grad, T* const (&to)[4]) const {
    for (int64_t r = 0; r < padded_; ++r) {
      const int64_t i = r < kept_.count() ? kept_.index[r] : -1;
      const bool reached = i >= 0 && lse[i] != -std::numeric_limits<T>::infinity();
      to[0][r] = reached ? T(lse[i] * kLog2E) : GroupGradients<T>::kOutOfReach;
      to[1][r] = reached ? grad.lse[i] : T(0);
      to[2][r] = i >= 0 && grad.target_logit != nullptr ? grad.target_logit[i] : T(0);
      to[3][r] = i >= 0 && grad.weighted_sum != nullptr ? grad.weighted_sum[i] : T(0);
    }
  }

  void backward_chunk(const Rows& rows, Columns& columns, int64_t chunk,
                      const std::vector<Band>& bands, T* const (&upstream)[4], Turns& turns,
                      const LogitGradients<T>& out) const {
    const ChunkTerms<kBackward> terms(p_, chunk);
    Vec<T> column_sums[kBackward] = {};
    columns.load(terms.first, terms.count);
    LogitWeights<T, typename Kernel::Store> weights(map_);
    for (size_t band = 0; band < bands.size(); ++band) {
      for (int64_t g = bands[band].begin; g < bands[band].end; ++g) {
        const int64_t at = g * kGroup;
        const GroupGradients<T> grad{upstream[0] + at, upstream[1] + at, upstream[2] + at,
                                     upstream[3] + at};
        const int64_t place = g - bands[band].begin;
        columns.products(rows, g, place, weights, [&](int64_t b, T* tile, int64_t stride) {
          Vec<T>* sums = out.dbias == nullptr ? nullptr : column_sums + b * kBlockColumns;
          weights.begin(terms.block(b, tile, stride), marked(g), grad, sums,
                        columns.store(place, b, tile, stride));
        });
      }
      weights.drain();
      columns.column_gradients(rows, bands[band], terms.first, terms.count, out);
      const int64_t units = rows.units(bands[band].groups());
      for (int64_t u = 0; u < units; ++u) {
        const int64_t turn = int64_t(band) * rows.units(kBandGroups) + u;
        turns.await(turn, int32_t(chunk));
        columns.row_gradients(rows, bands[band], u, /*first=*/chunk == 0);
        turns.finish(turn, int32_t(chunk));
      }
    }
    for (int64_t c = 0; c < terms.count && out.dbias != nullptr; ++c) {
      out.dbias[terms.first + c] = sum(column_sums[c]);
    }
  }

  void clear_other_rows(const LogitGradients<T>& out) const {
    if (kept_.count() == p_.m) return;
    const int64_t bytes = p_.d * element_size(out.dtype);
    parallel_ranges(p_.m, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (p_.target[i] < 0) std::memset(static_cast<char*>(out.dq) + i * bytes, 0, bytes);
      }
    });
  }

  const Logits& p_;
  const KeptRows kept_;
  const int64_t groups_, padded_;
  const LogitMap<T> map_;
  std::vector<int32_t> marked_;
};

}  // namespace sslk
