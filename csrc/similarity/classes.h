// Rows in classes: what a loss needs of each class that has several rows.
#pragma once

#include <cstdint>
#include <vector>

#include "problem.h"

namespace sslk {

template <class Acc>
class Classes {
 public:
  // Of the rows that the softmax sees; those of one label are one class.
  Classes(const Symmetric& problem, const int64_t* labels);

  // Rows that are not alone in their class.
  int64_t members() const { return members_; }
  bool is_member(int64_t i) const { return of_row_[i] >= 0; }
  // The sum, over members i, of the mean of <z_i, z_p> over the others p of i's class.
  double similarity() const;
  // What each member's gradient gains when `upstream` similarity() is taken off a loss.
  ClassPull<Acc> pull(Acc upstream);

 private:
  int64_t classes() const { return int64_t(size_.size()); }

  const int64_t d_;
  int64_t members_ = 0;
  std::vector<int64_t> of_row_;  // the row's class, or -1
  std::vector<int64_t> size_;
  std::vector<double> products_;  // of each class: sum over its pairs i != j of <z_i, z_j>
  std::vector<Acc> sums_;         // [classes, D]
  std::vector<Acc> weight_;
};

}  // namespace sslk
