// Threads and the order of work. Kernels see no torch type: parallel.cpp binds this to torch's
// pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace sslk {

int thread_count();

// Runs body(0) ... body(n - 1), each once, on at most thread_count() threads.
void parallel_run(int64_t n, const std::function<void(int64_t)>& body);

// How many workers to give work that is n in size, if none should have less than `least` of it.
inline int64_t worker_count(int64_t n, int64_t least) {
  return std::clamp<int64_t>(n / least, 1, thread_count());
}

// Splits [0, n) into one contiguous range a worker, none much shorter than `least`.
template <class F>
void parallel_ranges(int64_t n, int64_t least, F&& body) {
  const int64_t parts = worker_count(n, least);
  parallel_run(parts, [&](int64_t p) { body(n * p / parts, n * (p + 1) / parts); });
}
template <class F>
void parallel_ranges(int64_t n, F&& body) {
  parallel_ranges(n, 1, body);
}

// Spins until ready() is true; with more threads than cores, lets the others go first.
template <class Ready>
void spin_until(Ready&& ready) {
  for (int spins = 0; !ready(); ++spins) {
    if (spins > 1000) std::this_thread::yield();
  }
}

// Items 0 ... n - 1, each for the worker that takes it. Every worker has a range of its own and
// goes on to the others' when that is done, so the same items mostly meet the same caches from call
// to call, and a worker that starts late holds nobody up: workers may even run one after the other.
class Claims {
 public:
  explicit Claims(int64_t n) : n_(n), taken_(std::make_unique<std::atomic<bool>[]>(n)) {
    for (int64_t i = 0; i < n; ++i) taken_[i].store(false, std::memory_order_relaxed);
  }
  bool any_left() const {
    return std::any_of(taken_.get(), taken_.get() + n_, [](const auto& taken) { return !taken; });
  }
  // Takes items until none is left.
  template <class Item>
  void take(int64_t worker, int64_t workers, Item&& item) {
    for (int64_t k = 0; k < n_; ++k) {
      const int64_t i = (n_ * worker / workers + k) % n_;
      if (taken_[i].exchange(true, std::memory_order_relaxed)) continue;
      item(i);
      done_.fetch_add(1, std::memory_order_release);
    }
  }
  // Returns when all items are done, whoever took them.
  void await_all() const {
    spin_until([&] { return done_.load(std::memory_order_acquire) == n_; });
  }

 private:
  const int64_t n_;
  std::unique_ptr<std::atomic<bool>[]> taken_;
  std::atomic<int64_t> done_{0};
};

// Counters of finished work that later work of the same rows waits for.
class Turns {
 public:
  explicit Turns(int64_t count) : done_(std::make_unique<std::atomic<int32_t>[]>(count)) {
    for (int64_t i = 0; i < count; ++i) done_[i].store(0, std::memory_order_relaxed);
  }
  void await(int64_t i, int32_t turn) const {
    spin_until([&] { return done_[i].load(std::memory_order_acquire) >= turn; });
  }
  void finish(int64_t i, int32_t turn) { done_[i].store(turn + 1, std::memory_order_release); }

 private:
  std::unique_ptr<std::atomic<int32_t>[]> done_;
};

// All pairs of stripes {i, j}, i <= j, in the order of a round-robin tournament.
//
// A pair reads and writes the rows of both its stripes and of no other, and one round holds each
// stripe at most once. Threads take pairs in order and wait until the earlier pairs of the same
// stripes are done. So sums have one owner at a time and one order: no per-thread copies, no
// atomics on data, and the same bits whatever the number of threads.
class Tournament {
 public:
  explicit Tournament(int64_t stripes) {
    std::vector<int32_t> played(stripes, 0);
    auto add = [&](int64_t i, int64_t j) {
      if (i > j) std::swap(i, j);
      pairs_.push_back({int32_t(i), int32_t(j), played[i], played[j]});
      ++played[i];
      if (i != j) ++played[j];
    };
    for (int64_t i = 0; i < stripes; ++i) add(i, i);
    // Circle method: player n - 1 stays, the others rotate; with an odd count that seat is empty.
    const int64_t seats = stripes + stripes % 2;
    for (int64_t round = 0; round + 1 < seats; ++round) {
      for (int64_t k = 0; k < seats / 2; ++k) {
        const int64_t i = k == 0 ? seats - 1 : (round + k) % (seats - 1);
        const int64_t j = (round + seats - 1 - k) % (seats - 1);
        if (i < stripes && j < stripes) add(i, j);
      }
    }
    stripes_ = stripes;
  }

  // Calls play(worker, i, j) for every pair.
  template <class Play>
  void run(Play&& play) const {
    Turns turns(stripes_);
    std::atomic<size_t> next{0};
    const int64_t workers = std::min<int64_t>(thread_count(), int64_t(pairs_.size()));
    parallel_run(workers, [&](int64_t worker) {
      for (size_t p; (p = next.fetch_add(1, std::memory_order_relaxed)) < pairs_.size();) {
        const Pair& pair = pairs_[p];
        turns.await(pair.i, pair.before_i);
        turns.await(pair.j, pair.before_j);
        play(worker, int64_t(pair.i), int64_t(pair.j));
        turns.finish(pair.i, pair.before_i);
        if (pair.i != pair.j) turns.finish(pair.j, pair.before_j);
      }
    });
  }

 private:
  struct Pair {
    int32_t i, j;
    int32_t before_i, before_j;  // pairs of the stripe that come earlier
  };

  std::vector<Pair> pairs_;
  int64_t stripes_ = 0;
};

// All pairs of stripes {i, j}, i <= j, row after row of them. A row belongs to one thread, which
// keeps stripe i in its caches; what pairs give to stripe j goes to one of two lanes, that of even
// or of odd rows, so that neighbouring rows, which run at the same time, have nothing to share.
//
// prepare(i, j) may run at any time; commit(i, j), which follows it, has stripe j of its lane to
// itself and sees the lane's commits there in the order of i: one order of all sums, whatever the
// threads. close(i) follows the last commit to stripe i. make(w) returns what has these three, for
// one thread's share of the rows.
constexpr int kCommitLanes = 2;

template <class Make>
void run_triangle(int64_t stripes, Make&& make) {
  Turns turns(stripes * kCommitLanes);
  std::atomic<int64_t> next{0};
  parallel_run(std::min<int64_t>(thread_count(), stripes), [&](int64_t w) {
    auto worker = make(w);
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < stripes;) {
      for (int64_t j = i; j < stripes; ++j) {
        const int64_t at = j * kCommitLanes + i % kCommitLanes;
        worker.prepare(i, j);
        turns.await(at, int32_t(i / kCommitLanes));
        worker.commit(i, j);
        turns.finish(at, int32_t(i / kCommitLanes));
      }
      for (int64_t row = std::max<int64_t>(0, i + 1 - kCommitLanes); row <= i; ++row) {
        turns.await(i * kCommitLanes + row % kCommitLanes, int32_t(row / kCommitLanes + 1));
      }
      worker.close(i);
    }
  });
}

}  // namespace sslk
