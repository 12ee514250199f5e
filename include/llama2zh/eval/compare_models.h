#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// How far a model is from a reference with the same vocabulary, over the next-token distributions on
// the same windows of tokens.
struct ModelDistance {
  int64_t positions = 0;
  double reference_nll = 0, nll = 0;  // sums, in nats, of the windows' own tokens
  double nll_difference_squares = 0;  // of (the model's - the reference's) of one token
  double kl = 0, kl_squares = 0;      // sums of KL(reference || model), in nats
  double max_logit_difference = 0;
  int64_t same_top = 0;  // positions where both have the same likeliest token
  double perplexity() const;
  double reference_perplexity() const;
  // Mean of the model's nll - the reference's. Its standard error is that of the pairs: what both
  // find hard is no difference, so it is far less than either's own.
  double nll_difference() const;
  double nll_difference_error() const;
  double mean_kl() const;
  double kl_error() const;  // standard errors as if places were independent
  double top1_agreement() const;
  double top1_error() const;
};

// Windows of up to `window` tokens of `ids`, each after BOS (as measure_perplexity() without
// overlap), one forward pass of each model a window.
ModelDistance compare_models(const Llama& reference, const Llama& model, TokenId bos,
                             std::span<const TokenId> ids, int64_t window,
                             const std::function<void(int64_t tokens)>& on_tokens = {});

}  // namespace llama2zh
