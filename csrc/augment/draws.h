// The rows of draws: sslkernels/augment/draws.py is the definition, this the same bits.
#pragma once

#include <cstdint>

namespace sslk::augment {

constexpr int64_t kNumbers = 64;  // of one policy: layout.Number

// numbers: [views, kNumbers], sample_ids: [batch], rows: [views, batch, kRowLength].
void draw(const int64_t* sample_ids, int64_t batch, const double* numbers, int64_t views,
          uint64_t seed, uint32_t epoch, int64_t height, int64_t width, float* rows);

}  // namespace sslk::augment
