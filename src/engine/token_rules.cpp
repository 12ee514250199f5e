// From texts and ids in a SamplingConfig to what process_logits() needs; log-probabilities.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/sampling.h"

namespace llama2zh {
namespace {

TokenId checked_id(int64_t id, const char* option, const LlamaConfig& model) {
  if (id < 0 || id >= model.vocab_size)
    fail_usage(option, cat("no token has the id ", id), cat("ids are 0 to ", model.vocab_size - 1));
  return static_cast<TokenId>(id);
}

std::pair<TokenId, float> parse_bias(const std::string& text, const LlamaConfig& model) {
  int64_t id = -1;
  float bias = 0;
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, id);
  const bool split = first.ec == std::errc() && first.ptr != end && *first.ptr == '=';
  const auto second = std::from_chars(split ? first.ptr + 1 : end, end, bias);
  if (!split || second.ec != std::errc() || second.ptr != end || !std::isfinite(bias))
    fail_usage("logit_bias", cat("'", text, "' is not of the form ID=BIAS"));
  return {checked_id(id, "logit_bias", model), bias};
}

// The ids of a word at the beginning of a text or after a space, and inside a text.
std::vector<std::vector<TokenId>> word_ids(const std::string& word, const Tokenizer& tokenizer) {
  if (trim(word).empty()) fail_usage("bad_words", "an empty word would forbid everything");
  std::vector<std::vector<TokenId>> forms = {tokenizer.encode(word),
                                             tokenizer.encode_continuation(word)};
  // There is no dummy prefix that would stand for the space.
  if (tokenizer.kind() == TokenizerKind::kByteLevelBpe) forms[0] = tokenizer.encode(" " + word);
  std::erase_if(forms, [](const auto& ids) { return ids.empty(); });
  return forms;
}

double log_sum_exp(const float* values, int64_t count) {
  const double highest = *std::max_element(values, values + count);
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += std::exp(values[i] - highest);
  return highest + std::log(total);
}

}  // namespace

TokenRules token_rules(const SamplingConfig& config, const std::vector<std::string>& stops,
                       const LlamaConfig& model, const Tokenizer& tokenizer) {
  TokenRules rules;
  if (!config.ignore_eos) {
    rules.ends.insert(tokenizer.eos_id());
    for (const int64_t id : model.eos_token_id) rules.ends.insert(static_cast<TokenId>(id));
  }
  for (const int64_t id : config.stop_ids) rules.ends.insert(checked_id(id, "stop_ids", model));
  for (const std::string& stop : stops) {
    const auto id = tokenizer.id_of(stop);
    if (id && tokenizer.is_special(*id)) rules.ends.insert(*id);
  }
  for (const std::string& text : config.logit_bias) rules.bias.push_back(parse_bias(text, model));
  for (const std::string& word : config.bad_words) {
    for (std::vector<TokenId>& ids : word_ids(word, tokenizer))
      rules.bad_words.push_back(std::move(ids));
  }
  return rules;
}

TokenLogprob logprob_of(const at::Tensor& logits, TokenId id) {
  const float* const values = logits.const_data_ptr<float>();
  return {id, values[id] - log_sum_exp(values, logits.numel())};
}

std::vector<TokenLogprob> top_logprobs(const at::Tensor& logits, int64_t count) {
  const float* const values = logits.const_data_ptr<float>();
  const auto size = static_cast<size_t>(logits.numel());
  std::vector<TokenId> order(size);
  for (size_t i = 0; i < size; ++i) order[i] = static_cast<TokenId>(i);
  const auto end = order.begin() + std::min<std::ptrdiff_t>(count, std::ssize(order));
  std::partial_sort(order.begin(), end, order.end(), [&](TokenId a, TokenId b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  });
  const double total = log_sum_exp(values, logits.numel());
  std::vector<TokenLogprob> top;
  for (auto it = order.begin(); it != end; ++it) top.push_back({*it, values[*it] - total});
  return top;
}

}  // namespace llama2zh
