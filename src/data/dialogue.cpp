// The known forms of instruction rows:
//   conversations   {"conversations": [{"from": "human", "value": ..}, ..]}: the original's and
//                   ShareGPT's; also "messages" with role/content. Preference rows, whose dialogue
//                   ends with the question, are answered by "chosen".
//   alpaca          {"instruction", "input", "output"}, the input on a line of its own behind the
//                   instruction; also BELLE's seed tasks, with {"input", "output"} in "instances".
//   query_response  {"query", "response"}; also PromptCBLUE's {"input", "target"}.
// The last two may have "history": [[question, answer], ..]; all may have "system".
#include <algorithm>

#include "data/row_file.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {
namespace {

bool has_value(const json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && !found->is_null();
}

const std::string& text_at(const json& row, const char* key, std::string_view where) {
  const auto found = row.find(key);
  if (found == row.end()) fail_data(where, cat("the row has no key \"", key, "\""));
  if (!found->is_string()) {
    fail_data(where, cat("\"", key, "\": expected a text, found ", found->type_name()));
  }
  return found->get_ref<const std::string&>();
}

std::string optional_text(const json& row, const char* key, std::string_view where) {
  return has_value(row, key) ? text_at(row, key, where) : std::string();
}

Message parse_message(const json& turn, std::string_view where) {
  if (!turn.is_object()) {
    fail_data(where, cat("a turn has to be an object, found ", turn.type_name()));
  }
  const bool share_gpt = turn.contains("from");
  const std::string& role = text_at(turn, share_gpt ? "from" : "role", where);
  return {parse_role(role, where), text_at(turn, share_gpt ? "value" : "content", where)};
}

void add_conversations(const json& row, std::string_view where, std::vector<Message>& messages) {
  const char* key = row.contains("conversations") ? "conversations" : "messages";
  const auto turns = row.find(key);
  if (turns == row.end()) {
    fail_data(where, "the row has neither \"conversations\" nor \"messages\"");
  }
  if (!turns->is_array()) {
    fail_data(where, cat("\"", key, "\": expected a list of turns, found ", turns->type_name()));
  }
  for (const json& turn : *turns) messages.push_back(parse_message(turn, where));
  const bool open = !messages.empty() && messages.back().role == Role::kUser;
  if (open && has_value(row, "chosen") && row["chosen"].is_object())
    messages.push_back(parse_message(row["chosen"], where));
}

void add_history(const json& row, std::string_view where, std::vector<Message>& messages) {
  if (!has_value(row, "history")) return;
  const json& history = row["history"];
  const auto is_pair = [](const json& turn) {
    return turn.is_array() && turn.size() == 2 && turn[0].is_string() && turn[1].is_string();
  };
  if (!history.is_array() || !std::all_of(history.begin(), history.end(), is_pair)) {
    fail_data(where, "\"history\": expected a list of [question, answer]");
  }
  for (const json& turn : history) {
    messages.push_back({Role::kUser, turn[0].get<std::string>()});
    messages.push_back({Role::kAssistant, turn[1].get<std::string>()});
  }
}

void add_alpaca(const json& row, std::string_view where, std::vector<Message>& messages) {
  add_history(row, where, messages);
  const json* task = &row;
  if (!row.contains("output") && has_value(row, "instances")) {
    const json& instances = row["instances"];
    if (!instances.is_array() || instances.size() != 1 || !instances[0].is_object()) {
      fail_data(where, "\"instances\": expected a list of one {\"input\", \"output\"}",
                "write a row for each");
    }
    task = &instances[0];
  }
  std::string question = text_at(row, "instruction", where);
  const std::string input = optional_text(*task, "input", where);
  if (!input.empty()) question += (question.empty() ? "" : "\n") + input;
  messages.push_back({Role::kUser, std::move(question)});
  messages.push_back({Role::kAssistant, text_at(*task, "output", where)});
}

void add_query_response(const json& row, std::string_view where, std::vector<Message>& messages) {
  add_history(row, where, messages);
  const bool prompt_cblue = !row.contains("query") && row.contains("target");
  messages.push_back({Role::kUser, text_at(row, prompt_cblue ? "input" : "query", where)});
  messages.push_back({Role::kAssistant, text_at(row, prompt_cblue ? "target" : "response", where)});
}

// "" for rows of no known form.
std::string known_format(const json& row) {
  if (row.contains("conversations") || row.contains("messages")) return "conversations";
  if (row.contains("instruction")) return "alpaca";
  if (row.contains("query") || (row.contains("input") && row.contains("target")))
    return "query_response";
  return {};
}

std::string detect_format(const json& row, std::string_view where) {
  std::string format = known_format(row);
  if (!format.empty()) return format;
  std::vector<std::string> keys;
  for (const auto& item : row.items()) keys.push_back(item.key());
  fail_data(where, cat("no known form of dialogue (keys: ", join(keys, ", "), ")"),
            "expected conversations, messages, instruction + output, query + response, or text");
}

}  // namespace

bool is_text_row(const json& row) { return row.contains("text") && known_format(row).empty(); }

std::vector<Message> parse_dialogue(const json& row, const std::string& format,
                                    std::string_view where) {
  if (!row.is_object()) fail_data(where, cat("expected an object, found ", row.type_name()));
  const std::string form = format == "auto" ? detect_format(row, where) : format;
  std::vector<Message> messages;
  if (form == "conversations") {
    add_conversations(row, where, messages);
  } else if (form == "alpaca") {
    add_alpaca(row, where, messages);
  } else if (form == "query_response") {
    add_query_response(row, where, messages);
  } else {
    fail_usage("data.format", cat("no form of rows is called \"", format, "\""));
  }
  if (messages.empty()) fail_data(where, "the dialogue has no turns");
  // A system turn in the dialogue is nearer to it than the row's key.
  std::string system = optional_text(row, "system", where);
  if (!system.empty() && messages.front().role != Role::kSystem)
    messages.insert(messages.begin(), {Role::kSystem, std::move(system)});
  return messages;
}

RowKind guess_row_kind(const std::string& file) {
  const std::unique_ptr<RowFile> rows = RowFile::open(file);
  RawRow row;
  if (!rows->next(row) || !row.is_json) return RowKind::kPretrain;
  return known_format(parse_row(row, file)).empty() ? RowKind::kPretrain : RowKind::kSft;
}

}  // namespace llama2zh
