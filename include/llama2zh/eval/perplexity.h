#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// How a text is cut into windows, and which of their tokens are scored. Numbers of different protocols,
// windows or strides are not comparable: what differs is how much each token sees.
enum class PerplexityProtocol {
  // Every token of the text once. stride == window: each window starts with BOS. stride < window: as
  // kHuggingFace over BOS + text.
  kWindows,
  // Hugging Face's guide ("Perplexity of fixed-length models") over BOS + text: each window scores the
  // tokens no earlier one scored, but for its own first, which nothing predicts.
  kHuggingFace,
  // llama.cpp's llama-perplexity: windows without overlap over BOS + text, the first token of each
  // replaced by BOS, the second half of each scored; what does not fill a window is left out.
  kLlamaCpp
};

struct PerplexityRule {
  PerplexityProtocol protocol = PerplexityProtocol::kWindows;
  int64_t window = 2048;
  int64_t stride = 2048;  // kLlamaCpp: the window
};

struct PerplexityResult {
  std::string name;
  int64_t tokens = 0;       // scored
  int64_t text_tokens = 0;  // that the text has
  int64_t characters = 0, bytes = 0;
  double nll = 0;          // sum over scored tokens, in nats
  double nll_squares = 0;  // sum of squares
  // Of these, special tokens (EOS, a template's): they are no characters, so what is said per
  // character and byte is without them.
  int64_t special_tokens = 0, special_text_tokens = 0;
  double special_nll = 0, special_squares = 0;
  double nll_per_token() const { return nll / static_cast<double>(tokens); }
  // Of nll_per_token, as if tokens were independent (they are not quite: a lower bound); llama.cpp's.
  double standard_error() const;
  double perplexity() const;
  double perplexity_error() const { return perplexity() * standard_error(); }
  // The mean nll of scored tokens that are not special, for every such token of the text.
  double bits_per_character() const;
  double bits_per_byte() const;
  double bits_per_character_error() const;  // standard errors, as standard_error()
  double bits_per_byte_error() const;

  void add(const PerplexityResult& part);  // sums; the name stays

 private:
  double text_bits() const;  // of the whole text
  double text_bits_error() const;
};

// kUsage for a window beyond the model's context or a stride that does not suit.
void check_rule(const PerplexityRule& rule, const LlamaConfig& config);

// `ids`: the text's tokens without BOS; `tokenizer` says which are special. No text: 0 tokens.
// `on_tokens` is told after each window how many tokens it scored. Characters and bytes are the
// caller's to fill in.
PerplexityResult measure_perplexity(const Llama& model, const Tokenizer& tokenizer,
                                    std::span<const TokenId> ids, const PerplexityRule& rule,
                                    const std::function<void(int64_t tokens)>& on_tokens = {});
// The same for a text, with its characters and bytes.
PerplexityResult measure_perplexity(const Llama& model, const Tokenizer& tokenizer,
                                    std::string_view text, const PerplexityRule& rule,
                                    const std::function<void(int64_t tokens)>& on_tokens = {});

}  // namespace llama2zh
