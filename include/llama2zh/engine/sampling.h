#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "llama2zh/base/random.h"
#include "llama2zh/config/option.h"
#include "llama2zh/model/llama_config.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// How the next token is chosen. Order as Hugging Face's generate: logit bias, repetition penalty,
// presence/frequency, bad words, min tokens, temperature, top-k, top-p, min-p, typical-p.
struct SamplingConfig {
  int64_t max_new_tokens = 256;
  double temperature = 0.7;
  int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  double typical_p = 1.0;
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::vector<std::string> stop;
  std::vector<int64_t> stop_ids;
  bool ignore_eos = false;
  int64_t min_tokens = 0;
  std::vector<std::string> logit_bias;
  std::vector<std::string> bad_words;
  int64_t seed = 0;
  int64_t num_beams = 1;
  double length_penalty = 1.0;
  std::string early_stopping = "false";
  static auto options() {
    return std::tuple(
        option("max_new_tokens", &SamplingConfig::max_new_tokens, "Tokens to generate at most.",
               between(1, 1048576)),
        option("temperature", &SamplingConfig::temperature,
               "0 takes the likeliest token always (greedy).", between(0, 100)),
        option("top_k", &SamplingConfig::top_k, "Keep the k likeliest tokens; 0: all.",
               at_least(0)),
        option("top_p", &SamplingConfig::top_p,
               "Keep the likeliest tokens that together reach this probability.", between(0, 1)),
        option("min_p", &SamplingConfig::min_p,
               "Drop tokens less likely than min_p times the likeliest.", between(0, 1)),
        option("typical_p", &SamplingConfig::typical_p,
               "Keep the tokens whose information is nearest to the entropy and that together "
               "reach this probability.",
               between(0, 1)),
        option("repetition_penalty", &SamplingConfig::repetition_penalty,
               "Positive logits of tokens in prompt or answer are divided by it, negative ones "
               "multiplied.",
               greater_than(0)),
        option("presence_penalty", &SamplingConfig::presence_penalty,
               "Subtracted from the logit of every token in the answer.", between(-2, 2)),
        option("frequency_penalty", &SamplingConfig::frequency_penalty,
               "Subtracted once per occurrence in the answer.", between(-2, 2)),
        option("stop", &SamplingConfig::stop,
               "Texts that end the answer; they are not part of it."),
        option("stop_ids", &SamplingConfig::stop_ids, "Token ids that end the answer."),
        option("ignore_eos", &SamplingConfig::ignore_eos, "Go on after the end-of-sequence token."),
        option("min_tokens", &SamplingConfig::min_tokens,
               "No EOS and no stop id before so many tokens.", at_least(0)),
        option("logit_bias", &SamplingConfig::logit_bias,
               "ID=BIAS: BIAS is added to the logit of token ID."),
        option("bad_words", &SamplingConfig::bad_words, "Texts that are never generated."),
        option("seed", &SamplingConfig::seed,
               "Seed of the random choice; the same seed gives the same answer.", at_least(0)),
        option("num_beams", &SamplingConfig::num_beams,
               "Beam search over so many beams, with temperature 0; 1: none.", between(1, 64)),
        option("length_penalty", &SamplingConfig::length_penalty,
               "Beams: the sum of log-probabilities is divided by length to this power.",
               between(-100, 100)),
        option("early_stopping", &SamplingConfig::early_stopping,
               "Beams: end when num_beams answers have ended (true), when better ones are unlikely "
               "(false) or impossible (never).",
               one_of({"false", "true", "never"})));
  }
};

// Temperatures below this are greedy: dividing by them would only overflow.
inline constexpr double kGreedyBelow = 1e-5;
bool is_greedy(const SamplingConfig& config);

// What a SamplingConfig means with one model and tokenizer; worked out once a request.
struct TokenRules {
  std::unordered_set<TokenId> ends;  // they end an answer and are not part of it
  std::vector<std::pair<TokenId, float>> bias;
  std::vector<std::vector<TokenId>> bad_words;
};
// `stops`: all stop texts; those that are tokens of their own end an answer as ids (decoding drops
// special tokens, so their text would never be seen). kUsage for ids that the model lacks, a bias
// that is none, an empty bad word.
TokenRules token_rules(const SamplingConfig& config, const std::vector<std::string>& stops,
                       const LlamaConfig& model, const Tokenizer& tokenizer);

// Changes logits [V] fp32 (CPU) in place: bias, penalties and what is forbidden, then temperature
// and filters (forbidden, filtered = -inf). When greedy there is no temperature and no filter. kData
// if the logits are not finite.
void process_logits(at::Tensor& logits, const SamplingConfig& config,
                    std::span<const TokenId> prompt, std::span<const TokenId> answer,
                    const TokenRules& rules = {});
// The next token from processed logits: argmax when greedy (lowest id on ties), else a draw from
// softmax(logits). kData if the logits are not finite.
TokenId sample(const at::Tensor& processed_logits, const SamplingConfig& config, Random& random);

// The same where `draft` was guessed: drawn from softmax(draft_logits), or for sure where those are
// undefined. It stays with probability min(1, p / q); else the draw is from the rest, max(0, p - q),
// so that over all the token's distribution is p (Leviathan et al. 2023).
TokenId sample_with_draft(const at::Tensor& processed_logits, TokenId draft,
                          const at::Tensor& draft_logits, const SamplingConfig& config,
                          Random& random);

// A token with its log-probability (natural) by the model itself: softmax of the unprocessed logits.
struct TokenLogprob {
  TokenId id = 0;
  double logprob = 0;
};
TokenLogprob logprob_of(const at::Tensor& logits, TokenId id);
// The `count` likeliest, the likeliest first, the lower id first among equals.
std::vector<TokenLogprob> top_logprobs(const at::Tensor& logits, int64_t count);

}  // namespace llama2zh
