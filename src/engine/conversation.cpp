// History by tokens. A template may encode a turn differently at the start of a dialogue (system
// text, BOS), so the whole prompt is encoded anew after each dropped turn rather than counted turn
// by turn.
#include "llama2zh/engine/conversation.h"

#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

FittedPrompt fit_prompt(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                        std::span<const Message> messages, int64_t context,
                        int64_t max_new_tokens) {
  const int64_t budget = context - std::min(max_new_tokens, context / 2);
  std::vector<Message> kept(messages.begin(), messages.end());
  const std::ptrdiff_t first_turn = !kept.empty() && kept.front().role == Role::kSystem ? 1 : 0;
  FittedPrompt prompt;
  while (true) {
    prompt.ids = chat_template.encode_prompt(tokenizer, kept);
    if (static_cast<int64_t>(prompt.ids.size()) <= budget) return prompt;
    if (static_cast<std::ptrdiff_t>(kept.size()) < first_turn + 3) break;
    kept.erase(kept.begin() + first_turn, kept.begin() + first_turn + 2);
    ++prompt.dropped_turns;
  }
  if (static_cast<int64_t>(prompt.ids.size()) > context - 1) {
    fail_data("message",
              cat("it takes ", prompt.ids.size(), " tokens, but the model's context of ", context,
                  " leaves room for ", context - 1),
              "send a shorter message");
  }
  return prompt;
}

std::vector<TokenId> raw_prompt(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<TokenId> ids = tokenizer.encode_with_specials(text);
  const bool has_bos = !ids.empty() && ids.front() == tokenizer.bos_id();
  if (ids.empty() || (tokenizer.add_bos() && !has_bos)) ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

}  // namespace llama2zh
