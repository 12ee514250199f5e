// From texts and ids in a SamplingConfig to what process_logits() needs; log-probabilities.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/sampling.h"
#include "llama2zh/kernels/logit_row.h"

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

std::span<const float> row_of(const at::Tensor& logits) {
  return {logits.const_data_ptr<float>(), static_cast<size_t>(logits.numel())};
}

double log_sum_exp(std::span<const float> values) {
  const float highest = highest_logit(values).value;
  return highest + std::log(exp_sum(values, highest));
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
  const std::span<const float> values = row_of(logits);
  return {id, values[static_cast<size_t>(id)] - log_sum_exp(values)};
}

std::vector<TokenLogprob> top_logprobs(const at::Tensor& logits, int64_t count) {
  const std::span<const float> values = row_of(logits);
  if (count < 1) return {};
  const double total = log_sum_exp(values);
  // The highest so far, the least of them first; of equal ones the lower id is higher.
  const auto is_higher = [&](TokenId a, TokenId b) {
    const float x = values[static_cast<size_t>(a)], y = values[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::vector<TokenId> heap;
  for (TokenId id = 0; id < static_cast<TokenId>(values.size()); ++id) {
    if (static_cast<int64_t>(heap.size()) == count) {
      if (!is_higher(id, heap.front())) continue;
      std::pop_heap(heap.begin(), heap.end(), is_higher);
      heap.pop_back();
    }
    heap.push_back(id);
    std::push_heap(heap.begin(), heap.end(), is_higher);
  }
  std::sort_heap(heap.begin(), heap.end(), is_higher);
  std::vector<TokenLogprob> top;
  for (const TokenId id : heap) top.push_back({id, values[static_cast<size_t>(id)] - total});
  return top;
}

}  // namespace llama2zh
