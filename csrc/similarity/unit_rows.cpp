#include "unit_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "../parallel.h"
#include "../rows.h"
#include "../simd.h"
#include "row_stat.h"

namespace sslk {
namespace {

constexpr int64_t kLeastValues = 1 << 14;  // for a thread

template <class T>
int64_t padded(int64_t d) {
  return (d + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
T dot(const std::vector<T>& a, const std::vector<T>& b) {
  Vec<T> products{};
  for (size_t k = 0; k < a.size(); k += kLanes<T>) products += load(&a[k]) * load(&b[k]);
  return sum(products);
}

// Calls f(i) for the rows of a thread, which brings its buffers along.
template <class MakeRow>
void each_row(int64_t m, int64_t d, MakeRow&& make_row) {
  parallel_ranges(m, (kLeastValues + d - 1) / d, [&](int64_t begin, int64_t end) {
    auto row = make_row();
    for (int64_t i = begin; i < end; ++i) row(i);
  });
}

}  // namespace

template <class Acc>
void unit_rows_forward(const void* x, Dtype dtype, int64_t m, int64_t d, void* z, Acc* inv_norm) {
  const int64_t bytes = d * element_size(dtype);
  each_row(m, d, [&] {
    return [&, row = std::vector<Acc>(padded<Acc>(d))](int64_t i) mutable {
      load_row(dtype, static_cast<const char*>(x) + i * bytes, d, row.data());
      inv_norm[i] = Acc(1) / std::max(std::sqrt(dot(row, row)), Acc(kNormEpsilon));
      // Not beyond d, where zeros stay, also after a row of NaN.
      for (int64_t k = 0; k < d; ++k) row[k] *= inv_norm[i];
      store_row(dtype, static_cast<char*>(z) + i * bytes, d, row.data());
    };
  });
}

template <class Acc>
void unit_rows_backward(const void* grad, const void* x, const Acc* inv_norm, Dtype dtype,
                        int64_t m, int64_t d, void* dx) {
  const int64_t bytes = d * element_size(dtype);
  each_row(m, d, [&] {
    return [&, row = std::vector<Acc>(padded<Acc>(d)),
            upstream = std::vector<Acc>(padded<Acc>(d))](int64_t i) mutable {
      load_row(dtype, static_cast<const char*>(x) + i * bytes, d, row.data());
      load_row(dtype, static_cast<const char*>(grad) + i * bytes, d, upstream.data());
      const Acc factor = inv_norm[i];
      // Below epsilon the norm is a constant.
      const bool constant = factor >= Acc(1) / Acc(kNormEpsilon);
      const Acc along = constant ? Acc(0) : dot(row, upstream) * factor * factor;
      for (int64_t k = 0; k < d; ++k) row[k] = factor * (upstream[k] - along * row[k]);
      store_row(dtype, static_cast<char*>(dx) + i * bytes, d, row.data());
    };
  });
}

#define SSLK_INSTANTIATE(T)                                                                     \
  template void unit_rows_forward(const void*, Dtype, int64_t, int64_t, void*, T*);             \
  template void unit_rows_backward(const void*, const void*, const T*, Dtype, int64_t, int64_t, \
                                   void*);
SSLK_INSTANTIATE(float)
SSLK_INSTANTIATE(double)
#undef SSLK_INSTANTIATE

}  // namespace sslk
