#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

struct PerplexityResult {
  std::string name;
  int64_t tokens = 0;  // predicted tokens
  int64_t characters = 0, bytes = 0;
  double nll = 0;  // sum, in nats
  double nll_per_token() const { return nll / static_cast<double>(tokens); }
  double perplexity() const;
  double bits_per_character() const;
  double bits_per_byte() const;
};

// The text as one stream of tokens after BOS, in windows of `window` tokens that advance by
// `stride` (stride == window: no overlap; each window then starts with BOS); each window scores
// only the tokens no earlier window scored. Every token of the text is predicted exactly once.
// (Hugging Face's guide, plus the first token, which BOS predicts.) An empty text has 0 tokens.
// kUsage for a window beyond the model's context or a stride beyond the window. `on_tokens` is told
// after each window how many tokens it scored.
PerplexityResult measure_perplexity(const Llama& model, const Tokenizer& tokenizer,
                                    std::string_view text, int64_t window, int64_t stride,
                                    const std::function<void(int64_t tokens)>& on_tokens = {});

}  // namespace llama2zh
