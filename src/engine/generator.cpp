// One answer: the part of the prompt that the cache does not hold yet goes through the model in
// chunks (the attention of a chunk needs memory chunk x context, not context x context), then token
// by token; the head sees only the last position. The newest token is forwarded only when one more
// is wanted, so the cache ends one token short of the answer.
#include "llama2zh/engine/generator.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <unordered_set>

#include "engine/stop_texts.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check_ids(std::span<const TokenId> ids, int64_t vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    fail_data("prompt",
              cat("token ", i, " is ", ids[i], ", but the model has ids 0 to ", vocab_size - 1),
              "use the tokenizer that belongs to the model");
  }
}

void check_prompt(std::span<const TokenId> prompt, const LlamaConfig& config) {
  if (prompt.empty()) fail_data("prompt", "it has no tokens", "start with BOS");
  const auto length = static_cast<int64_t>(prompt.size());
  if (length > config.context_length() - 1) {
    fail_data("prompt",
              cat("it has ", length, " tokens, but the model's context of ",
                  config.context_length(), " leaves room for ", config.context_length() - 1),
              "shorten the prompt");
  }
  check_ids(prompt, config.vocab_size);
}

// Ids that end an answer: EOS by the tokenizer and by the model's config, the caller's, and stop
// texts that are tokens of their own (decoding drops special tokens, so their text would never be
// seen).
std::unordered_set<TokenId> ending_ids(const SamplingConfig& config,
                                       const std::vector<std::string>& stops, const Llama& model,
                                       const Tokenizer& tokenizer) {
  std::unordered_set<TokenId> ids;
  if (!config.ignore_eos) {
    ids.insert(tokenizer.eos_id());
    for (const int64_t id : model.config.eos_token_id) ids.insert(static_cast<TokenId>(id));
  }
  for (const int64_t id : config.stop_ids) {
    if (id < 0 || id >= model.config.vocab_size)
      fail_usage("stop_ids", cat("no token has the id ", id),
                 cat("ids are 0 to ", model.config.vocab_size - 1));
    ids.insert(static_cast<TokenId>(id));
  }
  for (const std::string& stop : stops) {
    const auto id = tokenizer.id_of(stop);
    if (id && tokenizer.is_special(*id)) ids.insert(*id);
  }
  return ids;
}

}  // namespace

Generator::Generator(const Llama& model, const Tokenizer& tokenizer)
    : model_(&model),
      tokenizer_(&tokenizer),
      cache_(model.config, model.compute_dtype(), model.device()) {}

GenerationResult Generator::generate(std::span<const TokenId> prompt, const SamplingConfig& config,
                                     const std::vector<std::string>& extra_stops,
                                     const OnText& on_text, bool continues) {
  check_prompt(prompt, model_->config);
  std::vector<std::string> stops = config.stop;
  stops.insert(stops.end(), extra_stops.begin(), extra_stops.end());
  const auto ends = ending_ids(config, stops, *model_, *tokenizer_);
  AnswerText answer(*tokenizer_, stops, continues ? prompt : std::span<const TokenId>());
  const auto emit = [&](const std::string& text) { return !on_text || on_text(text); };

  const at::NoGradGuard no_grad;
  GenerationResult result;
  result.prompt_tokens = static_cast<int64_t>(prompt.size());
  auto start = Clock::now();
  at::Tensor logits = prefill(prompt, emit);
  result.prefill_seconds = seconds_since(start);

  start = Clock::now();
  const auto limit = static_cast<size_t>(
      std::min(config.max_new_tokens, model_->config.context_length() - result.prompt_tokens));
  Random random(static_cast<uint64_t>(config.seed));
  while (result.finish_reason.empty()) {
    if (!logits.defined()) {
      result.finish_reason = "cancelled";
      break;
    }
    process_logits(logits, config, prompt, result.ids);
    const TokenId id = sample(logits, config, random);
    if (ends.contains(id)) {
      result.finish_reason = "stop";
      break;
    }
    result.ids.push_back(id);
    if (!emit(answer.push(id))) {
      result.finish_reason = "cancelled";
    } else if (answer.stopped()) {
      result.finish_reason = "stop";
    } else if (result.ids.size() == limit) {
      result.finish_reason = "length";
    } else {
      logits = forward({&id, 1});
    }
  }
  // A cancelled answer is what was released; the rest of any other is complete now, and can itself
  // end in a stop text.
  if (result.finish_reason != "cancelled") {
    const std::string rest = answer.finish();
    if (!rest.empty()) emit(rest);
    if (answer.stopped()) result.finish_reason = "stop";
  }
  result.text = answer.released();
  result.decode_seconds = seconds_since(start);
  return result;
}

at::Tensor Generator::prefill(std::span<const TokenId> prompt,
                              const std::function<bool(const std::string&)>& emit) {
  const auto differ =
      std::mismatch(prompt.begin(), prompt.end(), cached_.begin(), cached_.end()).first;
  // The last token always goes through the model: its logits are wanted.
  auto done = std::min(static_cast<size_t>(differ - prompt.begin()), prompt.size() - 1);
  cache_.truncate(static_cast<int64_t>(done));
  cached_.resize(done);
  at::Tensor logits;
  while (done < prompt.size()) {
    const size_t chunk = std::min(static_cast<size_t>(kPrefillChunk), prompt.size() - done);
    const bool last = done + chunk == prompt.size();
    logits = forward(prompt.subspan(done, chunk), last);
    done += chunk;
    if (!emit({})) return {};
  }
  return logits;
}

at::Tensor Generator::forward(std::span<const TokenId> tokens, bool want_logits) {
  const auto count = static_cast<int64_t>(tokens.size());
  at::Tensor ids = at::empty({count}, at::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>());
  cache_.begin(count);
  const at::Tensor hidden = model_->forward(ids.to(model_->device()), cache_);
  cached_.insert(cached_.end(), tokens.begin(), tokens.end());
  if (!want_logits) return {};
  return model_->logits(hidden.narrow(0, count - 1, 1)).to(at::kCPU).view({-1});
}

}  // namespace llama2zh
