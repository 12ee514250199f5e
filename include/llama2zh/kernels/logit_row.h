#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace llama2zh {

// Passes over one row of logits [V] fp32 as sampling makes them, sixteen numbers at a time; the same
// bits on every instruction set but for contracted multiply-adds. A logit of -inf is a token that is
// not there: its exponential counts as nothing.

struct HighestLogit {
  int64_t index = 0;  // the lowest of equal ones
  float value = 0;
  bool any_nan = false;
};
HighestLogit highest_logit(std::span<const float> logits);  // of at least one

// Exponentials are exp(logit - highest) within 2 ulp, that difference in fp32 and never below -87; sums
// are formed of each kExpBlock neighbours in fp32, of those in double.
inline constexpr int64_t kExpBlock = 256;
double exp_sum(std::span<const float> logits, float highest);
// The sums of the blocks one by one, the last one possibly of fewer; returns the sum of all.
double exp_block_sums(std::span<const float> logits, float highest, std::vector<double>& sums);
void exp_row(std::span<const float> logits, float highest, float* out);

void divide_row(std::span<float> logits, float divisor);
// Logits below `lowest` become -inf.
void drop_below(std::span<float> logits, float lowest);
// Ids of the logits that are not below `lowest`, in order.
void ids_from(std::span<const float> logits, float lowest, std::vector<int32_t>& ids);

}  // namespace llama2zh
