// The random generator of this package: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel
// random numbers: as easy as 1, 2, 3", SC 2011). A draw is a pure function of a key and a counter,
// so it does not depend on batches, threads, workers or devices. Every implementation, in whatever
// language, follows the layout that stands here and only here:
//
//   key      { seed & 0xffffffff, seed >> 32 }, the seed an unsigned 64-bit number
//   counter  word 0  stream: what the draw is for, one of Stream in the low 8 bits; the other 24
//                    are the stream's own (masking: 0, augmentation: the epoch)
//            word 1  low half of the 64-bit id of the sequence or sample
//            word 2  high half of it; negative ids are two's complement
//            word 3  index: which draw of that id (masking: position, word or span; augmentation:
//                    65536 * view + draw)
//
// One block yields four words of 32 bits. What they become:
//
//   a yes with probability p    word < round(p * 2^32), compared in 64 bits: p = 1 is always yes
//   a uniform float in [0, 1)   (word >> 8) * 2^-24, exact in float32
//   an integer in [0, n)        (word * n) >> 32; no value is likelier than another by more than
//                               2^-32
//
// sslkernels/philox.py is the same in PyTorch. Nothing here needs torch, and CUDA can include it.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace sslk {

// Numbers once given are never given anew: results of old seeds would change.
enum class Stream : uint32_t {
  kMaskToken = 1,     // index: position in the sequence
  kMaskWord = 2,      // index: number of the word
  kMaskSpan = 3,      // index: number of the candidate span
  kMaskBudget = 4,    // index: 0
  kAugment = 5,       // id: sample; index: 65536 * view + draw (sslkernels/augment/draws.py)
  kAugmentNoise = 6,  // seed: two keys of 24 bits from the row of draws, as low and high half;
                      // id: channel / 4; index: pixel, y * width + x
};

struct PhiloxBlock {
  uint32_t word[4];
};

SSLK_HOST_DEVICE inline PhiloxBlock philox4x32(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  uint32_t c0 = counter.word[0], c1 = counter.word[1], c2 = counter.word[2], c3 = counter.word[3];
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t(0xd2511f53u) * c0;
    const uint64_t product1 = uint64_t(0xcd9e8d57u) * c2;
    c0 = uint32_t(product1 >> 32) ^ c1 ^ key0;
    c2 = uint32_t(product0 >> 32) ^ c3 ^ key1;
    c1 = uint32_t(product1);
    c3 = uint32_t(product0);
    key0 += 0x9e3779b9u;  // the golden ratio
    key1 += 0xbb67ae85u;  // sqrt(3) - 1
  }
  return {{c0, c1, c2, c3}};
}

// The block of one draw, laid out as above; epoch is below 2^24.
SSLK_HOST_DEVICE inline PhiloxBlock philox_block(uint64_t seed, Stream stream, uint64_t id,
                                                 uint32_t index, uint32_t epoch = 0) {
  const PhiloxBlock counter = {
      {uint32_t(stream) | epoch << 8, uint32_t(id), uint32_t(id >> 32), index}};
  return philox4x32(counter, uint32_t(seed), uint32_t(seed >> 32));
}

// In [0, 1).
SSLK_HOST_DEVICE inline float philox_uniform(uint32_t word) { return float(word >> 8) * 0x1p-24f; }

// In [0, n).
SSLK_HOST_DEVICE inline uint32_t philox_below(uint32_t word, uint32_t n) {
  return uint32_t((uint64_t(word) * n) >> 32);
}

}  // namespace sslk
