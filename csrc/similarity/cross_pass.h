// The passes over the implicit logits, for any kernel that multiplies blocks of them and anything
// that is done with a block.
//
// Columns are cut into chunks, which threads take in order; rows into groups and bands of groups.
//   scan:   for each chunk, for each group: logits, for a sink to sum up
//   weigh:  for each chunk, for each band: weights, that a sink makes of the logits of the chunk's
//           columns and the band's rows, in scratch, then dK of the chunk (which has one owner) and
//           dQ of the band (which takes the chunks in order)
// So both operands are read once a pass, sums have one order whatever the threads, and scratch
// grows with neither the number of columns nor, beyond Q and dQ themselves, that of rows.
//
// A kernel multiplies and knows its operands' layouts:
//   Scalar, kForwardColumns and kBackwardColumns of a chunk, Store, Session
//   Rows{problem, kept rows, purpose}:    bytes, place, pack(group), finish(group, ...) -> dot
//   Columns{problem, purpose}:            bytes, place, load(first, count)
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

// What a pass computes, and so the forms in which it needs its operands.
enum class Purpose { kLogits, kRowGradient, kBothGradients };

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
  using Store = typename Kernel::Store;

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
    const int64_t parts = forward_parts();
    Workspace workspace((3 * parts + 1) * Workspace::padded<T>(padded_));
    T* target = workspace.template take<T>(padded_);
    std::vector<RunningTerms<T>> running(parts);
    for (RunningTerms<T>& part : running) {
      part = {workspace.template take<T>(padded_), workspace.template take<T>(padded_),
              workspace.template take<T>(padded_), target};
    }
    scan([&](int64_t part) { return TermPart(map_, running[part], p_, padded_); });
    merge(running, out);
  }

  void backward(const T* lse, const TermGradients<T>& grad, const LogitGradients<T>& out) {
    Workspace workspace(4 * Workspace::padded<T>(padded_));
    T* upstream[4];
    for (T*& each : upstream) each = workspace.template take<T>(padded_);
    gather(lse, grad, upstream);
    weigh([&](int64_t) { return TermChunk(map_, upstream, out.dbias); }, out);
  }

  // Rows in groups, and what `at` below counts to.
  int64_t padded_rows() const { return padded_; }
  const KeptRows& kept() const { return kept_; }
  const LogitMap<T>& map() const { return map_; }
  // Parts of the columns: their number does not depend on the threads, and so neither do sums that
  // each part has for itself.
  int64_t forward_parts() const { return std::min(chunks(kForward), kForwardParts); }
  int64_t backward_chunks() const { return chunks(kBackward); }

  // open(part) makes what takes the logits of a part of the columns, on the thread that computes
  // them:
  //   sink                             step(), drain()
  //   begin(b, block, marked, at)      the sink's next block: block b of the chunk and the group of
  //                                    rows from `at` on
  //   close(first, count)              the sink has had all blocks of these columns, a chunk
  template <class Open>
  void scan(Open&& open) const {
    const int64_t parts = forward_parts(), all = chunks(kForward);
    const int workers = thread_count();
    Rows rows(p_, kept_, Purpose::kLogits);
    std::vector<Columns> columns(workers, Columns(p_, Purpose::kLogits));
    Workspace workspace(rows.bytes() + workers * columns[0].bytes());
    rows.place(workspace);
    for (Columns& each : columns) each.place(workspace);
    pack(rows);
    std::atomic<int64_t> next{0};
    parallel_run(std::min<int64_t>(workers, parts), [&](int64_t worker) {
      [[maybe_unused]] typename Kernel::Session session;
      for (int64_t part; (part = next.fetch_add(1)) < parts;) {
        auto to = open(part);
        for (int64_t chunk = all * part / parts; chunk < all * (part + 1) / parts; ++chunk) {
          scan_chunk(rows, columns[worker], chunk, to);
        }
      }
    });
  }

  // The same for a pass that ends in gradients: open(chunk) makes what takes the logits of a chunk,
  // and begin() has where their weights go as a last argument. The sink hands them over to
  // Store::put(c, g): two columns c and c + 1 of the block, g[2 columns][2 vectors].
  //   take_turn(at, count)             the sink has had the chunk's columns and these rows, at most
  //                                    kBandRows; chunks come here one after the other, in order
  template <class Open>
  void weigh(Open&& open, const LogitGradients<T>& out) const {
    const int workers = thread_count();
    const int64_t all = backward_chunks();
    const Purpose purpose = out.dk != nullptr ? Purpose::kBothGradients : Purpose::kRowGradient;
    Rows rows(p_, kept_, purpose);
    std::vector<Columns> columns(workers, Columns(p_, purpose));
    Workspace workspace(rows.bytes() + workers * columns[0].bytes() +
                        Workspace::padded<T>(groups_));
    rows.place(workspace);
    for (Columns& each : columns) each.place(workspace);
    T* dots = workspace.template take<T>(groups_);
    pack(rows);
    std::vector<Band> bands;
    if (groups_ == 0) bands.push_back({0, 0, true, true});
    for (int64_t g = 0; g < groups_; g += kBandGroups) {
      const int64_t end = std::min(groups_, g + kBandGroups);
      bands.push_back({g, end, g == 0, end == groups_});
    }
    Turns turns(int64_t(bands.size()) * rows.units(kBandGroups));
    std::atomic<int64_t> next{0};
    parallel_run(std::min<int64_t>(workers, all), [&](int64_t worker) {
      [[maybe_unused]] typename Kernel::Session session;
      for (int64_t chunk; (chunk = next.fetch_add(1)) < all;) {
        auto to = open(chunk);
        weigh_chunk(rows, columns[worker], chunk, bands, to, turns, out);
      }
    });
    clear_other_rows(out);
    parallel_ranges(groups_, [&](int64_t begin, int64_t end) {
      for (int64_t g = begin; g < end; ++g) dots[g] = rows.finish(g, out);
    });
    double sum = 0;
    for (int64_t g = 0; g < groups_; ++g) sum += dots[g];
    *out.dscale = T(sum * out.weight);
  }

 private:
  int64_t chunks(int64_t columns) const { return (p_.n + columns - 1) / columns; }
  void pack(const Rows& rows) const {
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

  template <class To>
  void scan_chunk(const Rows& rows, Columns& columns, int64_t chunk, To& to) const {
    const ChunkTerms<kForward> terms(p_, chunk);
    columns.load(terms.first, terms.count);
    for (int64_t g = 0; g < groups_; ++g) {
      columns.products(rows, g, 0, to.sink, [&](int64_t b, T* tile, int64_t stride) {
        to.begin(b, terms.block(b, tile, stride), marked(g), g * kGroup);
      });
    }
    to.sink.drain();
    to.close(terms.first, terms.count);
  }

  // Adds logits to the running terms of a part.
  struct TermPart {
    TermSums<T> sink;
    const RunningTerms<T> running;
    const bool asked;

    TermPart(const LogitMap<T>& map, const RunningTerms<T>& to, const Logits& p, int64_t rows)
        : sink(map), running(to), asked(p.target != nullptr) {
      std::fill_n(to.maximum, rows, RunningTerms<T>::kLowest);
      std::fill_n(to.sum, rows, T(0));
      std::fill_n(to.weighted, rows, T(0));
    }
    void begin(int64_t, const Block<T>& block, const Marked& marked, int64_t at) {
      sink.begin(block, marked,
                 {running.maximum + at, running.sum + at, running.weighted + at,
                  asked ? running.target + at : nullptr});
    }
    void close(int64_t, int64_t) const {}
  };

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

  // Makes the gradients of logits from those of the terms.
  struct TermChunk {
    LogitWeights<T, Store> sink;
    T* const (&upstream)[4];
    T* const dbias;
    Vec<T> column_sums[kBackward] = {};

    TermChunk(const LogitMap<T>& map, T* const (&from)[4], T* to)
        : sink(map), upstream(from), dbias(to) {}
    void begin(int64_t b, const Block<T>& block, const Marked& marked, int64_t at,
               const Store& store) {
      sink.begin(block, marked,
                 {upstream[0] + at, upstream[1] + at, upstream[2] + at, upstream[3] + at},
                 dbias == nullptr ? nullptr : column_sums + b * kBlockColumns, store);
    }
    void take_turn(int64_t, int64_t) const {}
    void close(int64_t first, int64_t count) const {
      for (int64_t c = 0; c < count && dbias != nullptr; ++c)
        dbias[first + c] = sum(column_sums[c]);
    }
  };

  template <class To>
  void weigh_chunk(const Rows& rows, Columns& columns, int64_t chunk,
                   const std::vector<Band>& bands, To& to, Turns& turns,
                   const LogitGradients<T>& out) const {
    const ChunkTerms<kBackward> terms(p_, chunk);
    columns.load(terms.first, terms.count);
    for (size_t band = 0; band < bands.size(); ++band) {
      for (int64_t g = bands[band].begin; g < bands[band].end; ++g) {
        const int64_t place = g - bands[band].begin;
        columns.products(rows, g, place, to.sink, [&](int64_t b, T* tile, int64_t stride) {
          to.begin(b, terms.block(b, tile, stride), marked(g), g * kGroup,
                   columns.store(place, b, tile, stride));
        });
      }
      to.sink.drain();
      if (out.dk != nullptr) {
        columns.column_gradients(rows, bands[band], terms.first, terms.count, out);
      }
      const int64_t units = rows.units(bands[band].groups());
      for (int64_t u = 0; u < units; ++u) {
        const int64_t turn = int64_t(band) * rows.units(kBandGroups) + u;
        turns.await(turn, int32_t(chunk));
        if (u == 0) to.take_turn(bands[band].begin * kGroup, bands[band].groups() * kGroup);
        columns.row_gradients(rows, bands[band], u, /*first=*/chunk == 0);
        turns.finish(turn, int32_t(chunk));
      }
    }
    to.close(terms.first, terms.count);
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
