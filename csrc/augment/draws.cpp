#include "draws.h"

#include "../parallel.h"
#include "draw_row.h"

namespace sslk::augment {
namespace {

// Fewer rows than this take less time than it takes to wake a thread.
constexpr int64_t kRowsOfThread = 1024;

}  // namespace

void draw(const int64_t* sample_ids, int64_t batch, const double* numbers, int64_t views,
          uint64_t seed, uint32_t epoch, int64_t height, int64_t width, float* rows) {
  parallel_ranges(views * batch, kRowsOfThread, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t view = i / batch;
      const Words words(seed, epoch, uint64_t(sample_ids[i % batch]), uint32_t(view));
      draw_row(words, numbers + view * kNumbers, height, width, rows + i * kRowLength);
    }
  });
}

}  // namespace sslk::augment
