// Token masking: a thread per token, or for spans, which share a budget, a warp per sequence.
#include <algorithm>

#include "cuda.h"
#include "token.h"

namespace sslk {
namespace {

constexpr int kThreads = 128;
constexpr int kWarp = 32;
constexpr uint32_t kAll = 0xffffffff;

// MaskTokens without pointers to the host.
template <class Id>
struct Problem {
  int64_t batch, length;
  const Id* input_ids;
  const int64_t* sequence_ids;
  const bool* attention_mask;
  const int64_t* word_ids;
  int64_t mask_token_id, vocab_size;
  uint64_t seed;
  int64_t select_below, replace_below, random_below;
  int64_t ignore_index;
  Id* masked_ids;
  int64_t* labels;
  int64_t special_count, longer_count;
  int64_t longer_from[kMostLonger];
  int32_t special_ids[kMostSpecialIds];

  // By index and not by pointer: a pointer to an argument would copy it into every thread's stack.
  __device__ bool is_special(Id id) const {
    int64_t low = 0, high = special_count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (special_ids[middle] < id) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < special_count && special_ids[low] == id;
  }
  __device__ int64_t units_beyond_first(uint32_t word) const {
    int64_t more = 0;
    while (more < longer_count && longer_from[more] <= int64_t(word)) ++more;
    return more;
  }
};

// ---- Every token on its own ---------------------------------------------------------------------

template <class Id>
__global__ void __launch_bounds__(kThreads)
    mask_each(const Problem<Id> p, unsigned blocks_of_row, bool whole_words) {
  const int64_t i = int64_t(blockIdx.x % blocks_of_row) * kThreads + threadIdx.x;
  if (i >= p.length) return;
  const MaskRow<Id> row = MaskRow<Id>::of(p, blockIdx.x / blocks_of_row);
  const PhiloxBlock own = row.draw(Stream::kMaskToken, i);
  uint32_t selection = own.word[0];
  bool may = true;
  if (whole_words) {
    const int64_t word = row.words[i];
    may = word >= 0;
    selection = row.draw(Stream::kMaskWord, word).word[0];
  }
  row.masked[i] = row.ids[i];
  row.labels[i] = p.ignore_index;
  if (may && selection < p.select_below && row.maskable(p, i)) {
    row.select(p, i, own.word[1], own.word[2]);
  }
}

// ---- Spans --------------------------------------------------------------------------------------

// One row, all lanes of a warp together: what the CPU does one after another. Members are the same
// in every lane but for `lane_`.
template <class Id>
class Spans {
 public:
  __device__ Spans(const Problem<Id>& p, int64_t row, int32_t* memory)
      : p_(p),
        row_(MaskRow<Id>::of(p, row)),
        lane_(threadIdx.x % kWarp),
        maskable_(memory),
        unit_(maskable_ + p.length),
        taken_(unit_ + p.length),
        unit_begin_(taken_ + p.length) {}

  __device__ void run() {
    prepare();
    left_ = row_.budget(count_, p_.select_below);
    for (int64_t begin = 0; begin < count_ && left_ > 0; begin += kWarp) take_spans(begin);
    if (left_ == 0) return;
    const uint32_t fate = row_.draw(Stream::kMaskSpan, count_).word[2];
    for (int64_t u = 0; u < units_ && left_ > 0; ++u) take(u, fate);
  }

 private:
  __device__ int before_me(uint32_t lanes) const { return __popc(lanes & ((1u << lane_) - 1)); }

  // Copies the row; lists the maskable positions, and the units with the first position of each.
  __device__ void prepare() {
    for (int64_t begin = 0; begin < p_.length; begin += kWarp) {
      const int64_t i = begin + lane_;
      const bool inside = i < p_.length;
      const bool starts = inside && (i == 0 || !row_.words || row_.words[i] != row_.words[i - 1]);
      const bool can = inside && row_.maskable(p_, i);
      const uint32_t starting = __ballot_sync(kAll, starts), able = __ballot_sync(kAll, can);
      if (inside) {
        row_.masked[i] = row_.ids[i];
        row_.labels[i] = p_.ignore_index;
        unit_[i] = int32_t(units_ + before_me(starting) + starts - 1);
        taken_[i] = 0;
      }
      if (starts) unit_begin_[units_ + before_me(starting)] = int32_t(i);
      if (can) maskable_[count_ + before_me(able)] = int32_t(i);
      units_ += __popc(starting);
      count_ += __popc(able);
    }
    if (lane_ == 0) unit_begin_[units_] = int32_t(p_.length);
    __syncwarp();
  }

  // Each lane draws one of the spans from number `begin` on; they are taken in order.
  __device__ void take_spans(int64_t begin) {
    const PhiloxBlock span = row_.draw(Stream::kMaskSpan, begin + lane_);
    const int32_t first = unit_[maskable_[philox_below(span.word[0], uint32_t(count_))]];
    const int32_t units = int32_t(1 + p_.units_beyond_first(span.word[1]));
    const int64_t spans = std::min<int64_t>(kWarp, count_ - begin);
    for (int k = 0; k < spans && left_ > 0; ++k) {
      const int64_t u = __shfl_sync(kAll, first, k);
      const int64_t end = std::min(u + __shfl_sync(kAll, units, k), units_);
      const uint32_t fate = __shfl_sync(kAll, span.word[2], k);
      for (int64_t unit = u; unit < end; ++unit) take(unit, fate);
    }
  }

  // Selects what is maskable in a unit that nobody took before, as far as the budget goes.
  __device__ void take(int64_t unit, uint32_t fate) {
    const bool taken = taken_[unit];
    __syncwarp();
    if (taken) return;
    if (lane_ == 0) taken_[unit] = 1;
    __syncwarp();
    const int64_t end = unit_begin_[unit + 1];
    for (int64_t begin = unit_begin_[unit]; begin < end && left_ > 0; begin += kWarp) {
      const int64_t i = begin + lane_;
      const bool can = i < end && row_.maskable(p_, i);
      const uint32_t able = __ballot_sync(kAll, can);
      if (can && before_me(able) < left_) {
        row_.select(p_, i, fate, row_.draw(Stream::kMaskToken, i).word[2]);
      }
      left_ -= std::min<int64_t>(left_, __popc(able));
    }
  }

  const Problem<Id>& p_;
  const MaskRow<Id> row_;
  const unsigned lane_;
  int32_t *const maskable_, *const unit_, *const taken_, *const unit_begin_;
  int64_t count_ = 0, units_ = 0;  // of maskable positions and of units
  int64_t left_ = 0;               // of the budget
};

template <class Id>
__global__ void __launch_bounds__(kThreads, 4) mask_spans(const Problem<Id> p, int32_t* workspace) {
  const int64_t row = int64_t(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= p.batch) return;
  Spans<Id>(p, row, workspace + row * mask_workspace(MaskStrategy::kSpan, p.length)).run();
}

// ---- Launch -------------------------------------------------------------------------------------

template <class Id>
int mask_tokens_on_device(const MaskTokens<Id>& call, int32_t* workspace, void* stream) {
  if (call.batch == 0 || call.length == 0) return cudaSuccess;
  if (call.special_count > kMostSpecialIds || call.longer_count > kMostLonger) {
    return cudaErrorInvalidValue;
  }
  Problem<Id> p = {call.batch,
                   call.length,
                   call.input_ids,
                   call.sequence_ids,
                   call.attention_mask,
                   call.word_ids,
                   call.mask_token_id,
                   call.vocab_size,
                   call.seed,
                   call.select_below,
                   call.replace_below,
                   call.random_below,
                   call.ignore_index,
                   call.masked_ids,
                   call.labels,
                   call.special_count,
                   call.longer_count,
                   {},
                   {}};
  std::copy_n(call.longer_from, call.longer_count, p.longer_from);
  for (int64_t i = 0; i < call.special_count; ++i) p.special_ids[i] = int32_t(call.special_ids[i]);

  const bool spans = call.strategy == MaskStrategy::kSpan;
  const int64_t blocks_of_row = (call.length + kThreads - 1) / kThreads;
  const int64_t rows_of_block = kThreads / kWarp;
  const int64_t blocks =
      spans ? (call.batch + rows_of_block - 1) / rows_of_block : call.batch * blocks_of_row;
  if (blocks > 0x7fffffff) return cudaErrorInvalidConfiguration;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  if (spans) return cudaLaunchKernelEx(&config, mask_spans<Id>, p, workspace);
  const bool whole_words = call.strategy == MaskStrategy::kWholeWord;
  return cudaLaunchKernelEx(&config, mask_each<Id>, p, unsigned(blocks_of_row), whole_words);
}

}  // namespace
}  // namespace sslk

extern "C" int sslk_cuda_mask_tokens_int32(const sslk::MaskTokens<int32_t>* problem,
                                           int32_t* workspace, void* stream) {
  return sslk::mask_tokens_on_device(*problem, workspace, stream);
}
extern "C" int sslk_cuda_mask_tokens_int64(const sslk::MaskTokens<int64_t>* problem,
                                           int32_t* workspace, void* stream) {
  return sslk::mask_tokens_on_device(*problem, workspace, stream);
}
