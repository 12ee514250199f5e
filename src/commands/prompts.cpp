#include "commands/prompts.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/engine/conversation.h"

namespace llama2zh {
namespace {

std::vector<TokenId> chat_ids(const LoadedModel& loaded, const PromptForm& form,
                              std::vector<Message> messages) {
  if (!form.system.empty() && messages.front().role != Role::kSystem)
    messages.insert(messages.begin(), {Role::kSystem, form.system});
  return loaded.chat_template->encode_prompt(*loaded.tokenizer, messages);
}

std::vector<Message> dialogue_of(json row, const std::string& where) {
  // Rows that ask have no answer yet; parse_dialogue() wants one.
  if (row.contains("instruction") && !row.contains("output") && !row.contains("instances"))
    row["output"] = "";
  if (row.contains("query") && !row.contains("response")) row["response"] = "";
  std::vector<Message> messages = parse_dialogue(row, "auto", where);
  if (messages.back().role == Role::kAssistant) messages.pop_back();
  if (messages.empty() || messages.back().role != Role::kUser)
    fail_data(where, "the dialogue does not end with a user's message");
  return messages;
}

}  // namespace

std::vector<TokenId> prompt_of_text(const LoadedModel& loaded, const PromptForm& form,
                                    const std::string& text) {
  if (form.raw) return raw_prompt(*loaded.tokenizer, text);
  return chat_ids(loaded, form, {{Role::kUser, text}});
}

std::vector<TokenId> prompt_of_row(const LoadedModel& loaded, const PromptForm& form, json row,
                                   const std::string& where) {
  if (!row.is_object()) fail_data(where, cat("expected an object, found ", row.type_name()));
  const char* key = form.raw && !row.contains("prompt") ? "text" : "prompt";
  if (form.raw || row.contains("prompt")) {
    if (!row.contains(key)) fail_data(where, "the row has neither \"prompt\" nor \"text\"");
    if (!row[key].is_string())
      fail_data(where, cat("\"", key, "\": expected a text, found ", row[key].type_name()));
    const std::string text = row[key].get<std::string>();
    if (form.raw) return raw_prompt(*loaded.tokenizer, text);
    std::vector<Message> messages = {{Role::kUser, text}};
    const std::string system =
        row.contains("system") && row["system"].is_string() ? row["system"].get<std::string>() : "";
    if (!system.empty()) messages.insert(messages.begin(), {Role::kSystem, system});
    return chat_ids(loaded, form, std::move(messages));
  }
  return chat_ids(loaded, form, dialogue_of(std::move(row), where));
}

}  // namespace llama2zh
