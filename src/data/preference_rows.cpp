// A preference row is rewritten, once for each answer, to a row of a form that parse_dialogue()
// knows; so both sequences are made by the code that makes the rows of fine-tuning.
#include "llama2zh/data/preference_rows.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {
namespace {

bool is_given(const json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && !found->is_null();
}

// The text of an answer: a text, a turn, or the last of a list of turns.
std::string answer_text(const json& value, const char* key, std::string_view where) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array() && !value.empty()) return answer_text(value.back(), key, where);
  if (value.is_object()) {
    for (const char* text : {"value", "content"}) {
      if (value.contains(text) && value[text].is_string()) return value[text].get<std::string>();
    }
  }
  fail_data(where, cat("\"", key,
                       "\": expected a text, a turn with \"value\" or \"content\", or a "
                       "list of turns"));
}

const json& answer_at(const json& row, const char* key, std::string_view where) {
  if (!is_given(row, key)) {
    fail_data(where, cat("the row has no \"", key, "\""),
              "expected \"chosen\" and \"rejected\" beside the dialogue");
  }
  return row[key];
}

// Turns before the answer, which both answers have to share.
json shared_turns(const json& row, std::string_view where) {
  const json &chosen = row["chosen"], &rejected = row["rejected"];
  if (!chosen.is_array() || chosen.size() < 2) {
    fail_data(where, "the row has no dialogue",
              "expected conversations, messages, prompt or instruction, or lists of turns as "
              "chosen and rejected");
  }
  json turns(chosen.begin(), chosen.end() - 1);
  const bool same = rejected.is_array() && rejected.size() == chosen.size() &&
                    turns == json(rejected.begin(), rejected.end() - 1);
  if (!same) fail_data(where, "\"chosen\" and \"rejected\" differ before their last turn");
  return turns;
}

// The row with its dialogue in a form of its own and "chosen" as the answer.
std::pair<json, std::string> as_dialogue(const json& row, const std::string& answer,
                                         std::string_view where) {
  json dialogue = json::object();
  for (const char* key : {"system", "history", "instruction", "input"}) {
    if (is_given(row, key)) dialogue[key] = row[key];
  }
  const char* turns = row.contains("conversations") ? "conversations"
                      : row.contains("messages")    ? "messages"
                                                    : nullptr;
  const bool lists = row["chosen"].is_array() && row["chosen"].size() > 1;
  if (turns != nullptr) {
    dialogue["messages"] = row[turns];
  } else if (is_given(row, "instruction")) {
    dialogue["output"] = answer;
    return {std::move(dialogue), "alpaca"};
  } else if (is_given(row, "prompt") && row["prompt"].is_array()) {
    dialogue["messages"] = row["prompt"];
  } else if (is_given(row, "prompt") && row["prompt"].is_string() && !lists) {
    dialogue["query"] = row["prompt"];
    dialogue["response"] = answer;
    return {std::move(dialogue), "query_response"};
  } else {
    dialogue["messages"] = shared_turns(row, where);
  }
  dialogue["chosen"] = {{"role", "assistant"}, {"content", answer}};
  return {std::move(dialogue), "conversations"};
}

struct Sequence {
  std::vector<TokenId> ids;
  std::vector<uint8_t> supervised;
  int64_t length() const { return static_cast<int64_t>(ids.size()); }
  void keep_last(int64_t count) {
    const int64_t cut = std::max<int64_t>(0, length() - count);
    ids.erase(ids.begin(), ids.begin() + cut);
    supervised.erase(supervised.begin(), supervised.begin() + cut);
  }
};

Sequence encode_answer(const PreferencePair& pair, const std::string& answer,
                       const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                       std::string_view where) {
  std::vector<Message> messages = pair.dialogue;
  messages.push_back({Role::kAssistant, answer});
  EncodedDialogue encoded;
  try {
    encoded = chat_template.encode(tokenizer, messages);
  } catch (const Error& error) {  // knows the turn, not the row
    fail_data(where, error.what());
  }
  // What generation is given (earlier answers, a mark before the answer) is no part of the answer.
  const std::vector<TokenId> prompt = chat_template.encode_prompt(tokenizer, pair.dialogue);
  const auto given = std::ranges::mismatch(encoded.ids, prompt).in1 - encoded.ids.begin();
  std::fill_n(encoded.supervised.begin(), given, uint8_t{0});
  return {std::move(encoded.ids), std::move(encoded.supervised)};
}

void finish_sequence(Sequence& sequence, const char* key, std::string_view where) {
  if (!sequence.supervised.empty()) sequence.supervised.front() = 0;
  // What a template puts behind an answer is nobody's target and seen by none.
  while (!sequence.ids.empty() && sequence.supervised.back() == 0) {
    sequence.ids.pop_back();
    sequence.supervised.pop_back();
  }
  if (sequence.ids.empty()) fail_data(where, cat("\"", key, "\" has no token to learn from"));
}

// Where the second sequence of [begin, end) starts; `end` if there is no second one. labels[t] is
// the target of position t: the first without one behind targets is the end of the first answer.
int64_t pair_border(const int64_t* labels, int64_t begin, int64_t end) {
  const auto is_target = [](int64_t label) { return label >= 0; };
  const int64_t* answer = std::find_if(labels + begin, labels + end, is_target);
  const int64_t* last = std::find_if_not(answer, labels + end, is_target);
  return last == labels + end ? end : last - labels + 1;
}

}  // namespace

PreferencePair parse_preference(const json& row, std::string_view where) {
  if (!row.is_object()) fail_data(where, cat("expected an object, found ", row.type_name()));
  PreferencePair pair;
  pair.chosen = answer_text(answer_at(row, "chosen", where), "chosen", where);
  pair.rejected = answer_text(answer_at(row, "rejected", where), "rejected", where);
  const auto [dialogue, form] = as_dialogue(row, pair.chosen, where);
  pair.dialogue = parse_dialogue(dialogue, form, where);
  const size_t turns = pair.dialogue.size();
  if (turns < 2 || pair.dialogue.back().role != Role::kAssistant ||
      pair.dialogue[turns - 2].role != Role::kUser || pair.dialogue.back().content != pair.chosen) {
    fail_data(where, "the dialogue of a preference row has to end with the user's turn");
  }
  pair.dialogue.pop_back();
  return pair;
}

EncodedPair encode_preference(const PreferencePair& pair, const ChatTemplate& chat_template,
                              const Tokenizer& tokenizer, int64_t block_size,
                              const std::string& overlong, std::string_view where) {
  Sequence chosen = encode_answer(pair, pair.chosen, chat_template, tokenizer, where);
  Sequence rejected = encode_answer(pair, pair.rejected, chat_template, tokenizer, where);
  EncodedPair result;
  result.full_length = chosen.length() + rejected.length();
  result.overlong = result.full_length > block_size;
  if (result.overlong && overlong == "drop_row") return result;
  const int64_t half = block_size / 2;
  const int64_t room = std::max(half, block_size - rejected.length());
  rejected.keep_last(std::max(half, block_size - chosen.length()));
  chosen.keep_last(room);
  finish_sequence(chosen, "chosen", where);
  finish_sequence(rejected, "rejected", where);
  result.ids = std::move(chosen.ids);
  result.ids.insert(result.ids.end(), rejected.ids.begin(), rejected.ids.end());
  result.supervised = std::move(chosen.supervised);
  result.supervised.insert(result.supervised.end(), rejected.supervised.begin(),
                           rejected.supervised.end());
  return result;
}

void split_pairs(PackedBatch& batch) {
  const int64_t* labels = batch.labels.const_data_ptr<int64_t>();
  std::vector<int64_t> boundaries = {0};
  for (size_t i = 1; i < batch.boundaries.size(); ++i) {
    const int64_t begin = batch.boundaries[i - 1], end = batch.boundaries[i];
    const int64_t border = pair_border(labels, begin, end);
    const bool second =
        std::any_of(labels + border, labels + end, [](int64_t l) { return l >= 0; });
    if (!second) fail_data(cat("row ", batch.rows[i - 1]), "the row is no pair of answers");
    boundaries.push_back(border);
    boundaries.push_back(end);
  }
  batch.boundaries = std::move(boundaries);
}

}  // namespace llama2zh
