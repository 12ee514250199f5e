#pragma once

#include <map>
#include <utility>
#include <vector>

#include "llama2zh/engine/engine.h"

namespace llama2zh::testing {

inline Request greedy_request(std::vector<TokenId> prompt, int64_t max_new_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.max_new_tokens = max_new_tokens;
  return request;
}

// What a request's events said, by answer.
struct Answers {
  std::map<int64_t, std::string> text, finish_reason;
  std::map<int64_t, std::vector<TokenId>> tokens;
  RequestResult result;
  bool ended = false;

  const std::vector<TokenId>& ids() const { return result.completions.at(0).ids; }
  OnEvent listener() {
    return [this](const RequestEvent& event) {
      if (event.result != nullptr) {
        result = *event.result;
        ended = true;
        return;
      }
      text[event.index] += event.text;
      if (event.token != nullptr) tokens[event.index].push_back(event.token->id);
      if (!event.finish_reason.empty()) finish_reason[event.index] = event.finish_reason;
    };
  }
};

inline void finish_all(Engine& engine) {
  while (engine.step()) {
  }
}

}  // namespace llama2zh::testing
