#include "classes.h"

#include <algorithm>
#include <numeric>

#include "../parallel.h"
#include "view_matrix.h"

namespace sslk {

template <class Acc>
Classes<Acc>::Classes(const Symmetric& problem, const int64_t* labels)
    : d_(problem.views.d), of_row_(problem.views.rows(), -1) {
  const int64_t m = problem.views.rows(),
                width = (d_ + kLanes<Acc> - 1) / kLanes<Acc> * kLanes<Acc>;
  std::vector<int64_t> ordered(m);  // rows, class by class
  std::iota(ordered.begin(), ordered.end(), 0);
  std::sort(ordered.begin(), ordered.end(), [&](int64_t i, int64_t j) {
    return labels[i] != labels[j] ? labels[i] < labels[j] : i < j;
  });
  std::vector<int64_t> first;  // of each class, in `ordered`
  for (int64_t begin = 0, end = 0; begin < m; begin = end) {
    while (end < m && labels[ordered[end]] == labels[ordered[begin]]) ++end;
    if (end - begin == 1) continue;
    for (int64_t at = begin; at < end; ++at) of_row_[ordered[at]] = classes();
    first.push_back(begin);
    size_.push_back(end - begin);
    members_ += end - begin;
  }
  products_.resize(classes());
  sums_.resize(classes() * d_);
  weight_.resize(classes());
  std::vector<Acc> inv_norm(problem.normalize ? m : 0);
  parallel_ranges(classes(), [&](int64_t begin, int64_t end) {
    std::vector<Acc> row(width);
    std::vector<double> sum(d_);
    for (int64_t c = begin; c < end; ++c) {
      std::fill(sum.begin(), sum.end(), 0.0);
      double squares = 0;
      for (int64_t at = first[c]; at < first[c] + size_[c]; ++at) {
        load_view<Acc, true>(problem, ordered[at], width, inv_norm.data(), row.data());
        for (int64_t k = 0; k < d_; ++k) {
          sum[k] += row[k];
          squares += double(row[k]) * row[k];
        }
      }
      products_[c] = -squares;
      for (int64_t k = 0; k < d_; ++k) {
        products_[c] += sum[k] * sum[k];
        sums_[c * d_ + k] = Acc(sum[k]);
      }
    }
  });
}

template <class Acc>
double Classes<Acc>::similarity() const {
  double total = 0;
  for (int64_t c = 0; c < classes(); ++c) total += products_[c] / double(size_[c] - 1);
  return total;
}

template <class Acc>
ClassPull<Acc> Classes<Acc>::pull(Acc upstream) {
  // Every pair of a class is met from both its rows.
  for (int64_t c = 0; c < classes(); ++c) weight_[c] = 2 * upstream / Acc(size_[c] - 1);
  return {of_row_.data(), sums_.data(), weight_.data()};
}

template class Classes<float>;
template class Classes<double>;

}  // namespace sslk
