// From logits to a token. The processors follow transformers 5.23 (generation/logits_process.py),
// in the order of its generate(): SequenceBiasLogitsProcessor (of single tokens),
// RepetitionPenaltyLogitsProcessor, (presence and frequency, by OpenAI's formula over the answer),
// NoBadWordsLogitsProcessor, MinNewTokensLengthLogitsProcessor, TemperatureLogitsWarper,
// TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper, TypicalLogitsWarper. Ties: top-k keeps every token equal to the k-th, as there; which of equal
// tokens top-p drops depends on an unstable sort there, here the higher ids go first. Sums are more
// exact than transformers', so only tokens within 1e-6 of a threshold could differ.
#include "llama2zh/engine/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <unordered_map>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/kernels/logit_row.h"

namespace llama2zh {
namespace {

constexpr float kFiltered = -std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();  // of those that are there

std::span<float> values_of(at::Tensor& logits) {
  if (logits.dim() != 1 || logits.scalar_type() != at::kFloat || !logits.is_cpu() ||
      !logits.is_contiguous() || logits.numel() == 0)
    fail_data("sampling", "logits must be one contiguous row of fp32 on the CPU");
  return {logits.data_ptr<float>(), static_cast<size_t>(logits.numel())};
}

// Each token of prompt and answer once, however often it occurs.
void penalise_repetition(std::span<float> logits, double penalty, std::span<const TokenId> prompt,
                         std::span<const TokenId> answer) {
  std::vector<bool> seen(logits.size());
  const float factor = static_cast<float>(penalty);
  for (const std::span<const TokenId> part : {prompt, answer}) {
    for (const TokenId id : part) {
      const auto i = static_cast<size_t>(id);
      if (id < 0 || i >= logits.size() || seen[i]) continue;
      seen[i] = true;
      logits[i] = logits[i] < 0 ? logits[i] * factor : logits[i] / factor;
    }
  }
}

void penalise_counts(std::span<float> logits, const SamplingConfig& config,
                     std::span<const TokenId> answer) {
  std::unordered_map<TokenId, int64_t> counts;
  for (const TokenId id : answer) ++counts[id];
  for (const auto& [id, count] : counts) {
    if (id < 0 || static_cast<size_t>(id) >= logits.size()) continue;
    logits[static_cast<size_t>(id)] -= static_cast<float>(
        config.presence_penalty + config.frequency_penalty * static_cast<double>(count));
  }
}

// The k-th highest. Few tokens are above the lowest of the k highest so far: a heap has little to do.
float kth_highest(std::span<const float> logits, int64_t k) {
  std::vector<float> heap(logits.begin(), logits.begin() + k);
  const auto lowest_first = std::greater<>();
  std::make_heap(heap.begin(), heap.end(), lowest_first);
  for (const float logit : logits.subspan(static_cast<size_t>(k))) {
    if (!(logit > heap.front())) continue;
    std::pop_heap(heap.begin(), heap.end(), lowest_first);
    heap.back() = logit;
    std::push_heap(heap.begin(), heap.end(), lowest_first);
  }
  return heap.front();
}

void keep_top_k(std::span<float> logits, int64_t k) {
  if (k < static_cast<int64_t>(logits.size())) drop_below(logits, kth_highest(logits, k));
}

// Keeps tokens, likeliest first, while those before them sum up to less than top_p. Only tokens of a
// probability of at least (1 - top_p) / V can be among them: all others together have less than what
// top_p leaves. A heap gives those in order, so that only what is kept is sorted.
void keep_top_p(std::span<float> logits, double top_p) {
  constexpr double kSlack = 1e-3;  // for rounding
  const float highest = highest_logit(logits).value;
  const double total = exp_sum(logits, highest);
  const double least = (1 - top_p) / static_cast<double>(logits.size()) * total;
  std::vector<int32_t> ids;
  ids_from(logits, std::max(highest + static_cast<float>(std::log(least) - kSlack), kLowest), ids);
  std::vector<std::pair<float, int32_t>> heap;  // (logit, -id): the likeliest on top
  for (const int32_t id : ids) heap.emplace_back(logits[static_cast<size_t>(id)], -id);
  if (heap.empty()) return;  // every token is forbidden: sample() says so
  std::make_heap(heap.begin(), heap.end());
  auto end = heap.end();
  double before = 0;
  do {
    std::pop_heap(heap.begin(), end--);
    before += std::exp(static_cast<double>(end->first) - highest) / total;
  } while (end != heap.begin() && before < top_p);
  std::fill(logits.begin(), logits.end(), kFiltered);
  for (auto it = end; it != heap.end(); ++it) logits[static_cast<size_t>(-it->second)] = it->first;
}

void keep_min_p(std::span<float> logits, double min_p) {
  const double highest = highest_logit(logits).value;
  drop_below(logits, static_cast<float>(highest + std::log(min_p)));
}

// Typical decoding (Meister et al. 2022): tokens by how far -log p is from the entropy, nearest
// first, while those before sum up to less than `mass`; all at the distance of the last one stay.
void keep_typical(std::span<float> logits, double mass) {
  const float highest = highest_logit(logits).value;
  const double total = exp_sum(logits, highest);
  double entropy = 0;
  const double log_total = highest + std::log(total);
  for (const float logit : logits) {
    if (logit != kFiltered) entropy -= (logit - log_total) * std::exp(logit - log_total);
  }
  std::vector<std::pair<double, size_t>> order;  // distance, token
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] != kFiltered) order.emplace_back(std::abs(log_total - logits[i] - entropy), i);
  }
  if (order.empty()) return;
  std::sort(order.begin(), order.end());
  double before = 0, farthest = order.back().first;
  for (const auto& [distance, token] : order) {
    before += std::exp(logits[token] - log_total);
    if (before < mass) continue;
    farthest = distance;
    break;
  }
  for (const auto& [distance, token] : order)
    if (distance > farthest) logits[token] = kFiltered;
}

void forbid(std::span<float> logits, TokenId id) {
  if (id >= 0 && static_cast<size_t>(id) < logits.size())
    logits[static_cast<size_t>(id)] = kFiltered;
}

// The last token of a bad word is forbidden where prompt and answer end with the others.
void forbid_bad_words(std::span<float> logits, const std::vector<std::vector<TokenId>>& bad_words,
                      std::span<const TokenId> prompt, std::span<const TokenId> answer) {
  const size_t length = prompt.size() + answer.size();
  const auto at = [&](size_t i) {
    return i < prompt.size() ? prompt[i] : answer[i - prompt.size()];
  };
  for (const std::vector<TokenId>& word : bad_words) {
    const size_t before = word.size() - 1;
    bool matches = before <= length;
    for (size_t i = 0; matches && i < before; ++i) matches = at(length - before + i) == word[i];
    if (matches) forbid(logits, word.back());
  }
}

// Index of the highest logit, the lowest of equal ones. A model with broken weights gives NaN: a
// draw from that would be some token without a warning, and the filters' algorithms need an order.
size_t finite_index(const HighestLogit& best) {
  if (best.any_nan || !std::isfinite(best.value)) {
    fail_data("sampling", "the model's logits are not finite numbers",
              "check the weights with `llama2zh inspect`, or try --dtype float32");
  }
  return static_cast<size_t>(best.index);
}

// Of processed logits, which rules may have left nothing of.
size_t highest_allowed(std::span<const float> logits) {
  const HighestLogit best = highest_logit(logits);
  if (best.value == kFiltered && !best.any_nan)
    fail_data("sampling", "every token is forbidden here",
              "let bad_words, logit_bias, min_tokens and the constraint together leave one");
  return finite_index(best);
}

// The first place at which the sum of `weights` exceeds a random share of all of it; `otherwise`
// where rounding leaves none.
TokenId draw(std::vector<double> weights, TokenId otherwise, Random& random) {
  double total = 0;
  for (double& weight : weights) weight = total += weight;
  const double point = random.uniform() * total;
  const auto it = std::upper_bound(weights.begin(), weights.end(), point);
  return it == weights.end() ? otherwise : static_cast<TokenId>(it - weights.begin());
}

// The same of softmax(logits): first the block in which the place is, then the place in it.
TokenId draw_from_softmax(std::span<const float> logits, size_t best, Random& random) {
  const float highest = logits[best];
  std::vector<double> sums;
  double point = random.uniform() * exp_block_sums(logits, highest, sums);
  for (size_t block = 0; block < sums.size(); ++block) {
    if (point >= sums[block]) {
      point -= sums[block];
      continue;
    }
    const size_t first = block * kExpBlock;
    const auto part = logits.subspan(first, std::min<size_t>(kExpBlock, logits.size() - first));
    float weights[kExpBlock];
    exp_row(part, highest, weights);
    size_t last = best;
    for (size_t i = 0; i < part.size(); ++i) {
      if (weights[i] > 0) last = first + i;
      if (weights[i] > 0 && point < static_cast<double>(weights[i]))
        return static_cast<TokenId>(last);
      point -= static_cast<double>(weights[i]);
    }
    return static_cast<TokenId>(last);  // sums of the block are rounded
  }
  return static_cast<TokenId>(best);
}

std::vector<double> probabilities(std::span<const float> logits, size_t best) {
  std::vector<float> weights(logits.size());
  exp_row(logits, logits[best], weights.data());
  std::vector<double> out(weights.begin(), weights.end());
  const double total = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& value : out) value /= total;
  return out;
}

}  // namespace

bool is_greedy(const SamplingConfig& config) { return config.temperature < kGreedyBelow; }

void process_logits(at::Tensor& logits, const SamplingConfig& config,
                    std::span<const TokenId> prompt, std::span<const TokenId> answer,
                    const TokenRules& rules) {
  const std::span<float> values = values_of(logits);
  finite_index(highest_logit(values));
  for (const auto& [id, bias] : rules.bias) values[static_cast<size_t>(id)] += bias;
  if (config.repetition_penalty != 1)
    penalise_repetition(values, config.repetition_penalty, prompt, answer);
  if (config.presence_penalty != 0 || config.frequency_penalty != 0)
    penalise_counts(values, config, answer);
  forbid_bad_words(values, rules.bad_words, prompt, answer);
  if (static_cast<int64_t>(answer.size()) < config.min_tokens)
    for (const TokenId id : rules.ends) forbid(values, id);
  if (is_greedy(config)) return;
  if (config.temperature != 1) {
    divide_row(values, static_cast<float>(config.temperature));
  }
  if (config.top_k > 0) keep_top_k(values, config.top_k);
  if (config.top_p < 1) keep_top_p(values, config.top_p);
  if (config.min_p > 0) keep_min_p(values, config.min_p);
  if (config.typical_p < 1) keep_typical(values, config.typical_p);
}

TokenId sample(const at::Tensor& processed_logits, const SamplingConfig& config, Random& random) {
  at::Tensor logits = processed_logits;
  const std::span<const float> values = values_of(logits);
  const size_t best = highest_allowed(values);
  if (is_greedy(config)) return static_cast<TokenId>(best);
  return draw_from_softmax(values, best, random);
}

TokenId sample_with_draft(const at::Tensor& processed_logits, TokenId draft,
                          const at::Tensor& draft_logits, const SamplingConfig& config,
                          Random& random) {
  // A guess that was sure to be made: to draw from p and compare is the same.
  if (is_greedy(config) || !draft_logits.defined()) return sample(processed_logits, config, random);
  at::Tensor logits = processed_logits, guessed = draft_logits;
  const std::span<const float> values = values_of(logits), others = values_of(guessed);
  const size_t best = highest_allowed(values);
  std::vector<double> p = probabilities(values, best);
  const std::vector<double> q = probabilities(others, highest_allowed(others));
  const auto place = static_cast<size_t>(draft);
  if (random.uniform() * q[place] < p[place]) return draft;
  for (size_t i = 0; i < p.size(); ++i) p[i] = std::max(0.0, p[i] - q[i]);
  return draw(std::move(p), static_cast<TokenId>(best), random);
}

}  // namespace llama2zh
