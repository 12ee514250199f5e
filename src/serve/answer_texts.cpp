#include "serve/answer_texts.h"

#include <algorithm>
#include <ctime>

#include "llama2zh/base/random.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {

std::string answer_id(const char* prefix, const std::string& request_id) {
  return prefix + (request_id.empty() ? random_hex(24) : request_id);
}

int64_t unix_seconds() { return std::time(nullptr); }

std::string token_text(const Tokenizer& tokenizer, TokenId id) {
  const std::string bytes = tokenizer.bytes_of(id);
  return bytes.empty() ? tokenizer.piece(id) : utf8_sanitize(bytes);
}

json usage_of(const std::vector<RequestResult>& results) {
  int64_t prompt = 0, cached = 0, made = 0;
  for (const RequestResult& result : results) {
    prompt += result.prompt_tokens;
    cached += result.cached_tokens;
    made += result.generated_tokens;
  }
  json out = usage_so_far(prompt, made);
  out["prompt_tokens_details"] = {{"cached_tokens", cached}};
  return out;
}

json usage_so_far(int64_t prompt_tokens, int64_t completion_tokens) {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens}};
}

json finish_reason_of(const std::string& reason) {
  if (reason.empty()) return nullptr;
  return reason == "stop" ? "stop" : "length";
}

json stop_reason_of(const Completion& completion, const SamplingConfig& asked) {
  const auto& stops = asked.stop;
  const auto& ids = asked.stop_ids;
  if (std::find(stops.begin(), stops.end(), completion.stop_text) != stops.end())
    return completion.stop_text;
  if (std::find(ids.begin(), ids.end(), completion.end_id) != ids.end()) return completion.end_id;
  return nullptr;
}

std::vector<TokenId> all_ids(const Completion& completion) {
  std::vector<TokenId> out = completion.ids;
  if (completion.end_id >= 0) out.push_back(completion.end_id);
  return out;
}

namespace {

std::vector<TokenId> ids_of(const RequestEvent& event) {
  std::vector<TokenId> out;
  if (event.token != nullptr) out.push_back(event.token->id);
  if (event.completion != nullptr && event.completion->end_id >= 0)
    out.push_back(event.completion->end_id);
  return out;
}

}  // namespace

void add_event_details(json& choice, const RequestEvent& event, const AnswerFields& asked) {
  if (event.completion != nullptr)
    choice["stop_reason"] = stop_reason_of(*event.completion, asked.request.sampling);
  if (asked.token_ids) choice["token_ids"] = ids_of(event);
}

double shown_logprob(double logprob) { return std::max(logprob, -9999.0); }

}  // namespace llama2zh
