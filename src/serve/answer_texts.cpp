#include "serve/answer_texts.h"

#include <algorithm>
#include <ctime>

#include "llama2zh/base/random.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {

std::string new_answer_id(const char* prefix) { return prefix + random_hex(24); }

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
    for (const Completion& completion : result.completions) made += std::ssize(completion.ids);
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", made},
          {"total_tokens", prompt + made},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

json finish_reason_of(const std::string& reason) {
  if (reason.empty()) return nullptr;
  return reason == "stop" ? "stop" : "length";
}

double shown_logprob(double logprob) { return std::max(logprob, -9999.0); }

}  // namespace llama2zh
