#include "commands/chat_session.h"

#include <csignal>
#include <cstdio>

#include "commands/terminal.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/conversation.h"

namespace llama2zh {
namespace {

constexpr const char* kHelp =
    "  /system TEXT     set the system text and start anew; without TEXT: the template's own\n"
    "  /clear           forget the conversation\n"
    "  /set KEY VALUE   change a sampling option (temperature, top_p, max_new_tokens, ...)\n"
    "  /set             show them\n"
    "  /adapter NAME    answer with this adapter; without NAME: with none\n"
    "  /save FILE       write the conversation as one JSON row, ready for sft\n"
    "  /help            this\n"
    "  /quit            leave, as Ctrl-D does\n"
    "Ctrl-C stops an answer. A message that begins with / is written //.\n";

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

ChatSession::ChatSession(const LoadedModel& loaded, SamplingConfig& sampling,
                         const OptionTable& sampling_table, const EngineConfig& engine)
    : loaded_(&loaded),
      sampling_(&sampling),
      sampling_table_(&sampling_table),
      generator_(*loaded.model, *loaded.tokenizer, engine, loaded.parts()) {}

void ChatSession::set_system(const std::string& text) {
  if (!text.empty()) {
    // Not every template has a form for it: better said now than at each message.
    const std::vector<Message> trial = {{Role::kSystem, text}, {Role::kUser, "?"}};
    try {
      loaded_->chat_template->encode_prompt(*loaded_->tokenizer, trial);
    } catch (const Error&) {
      fail_data("system text",
                cat("the template ", loaded_->chat_template->name(), " has no place for one"),
                "write it into your first message, or take another --template");
    }
  }
  system_ = text;
  forget();
}

void ChatSession::set_adapter(const std::string& name) {
  loaded_->adapters->find(name);
  adapter_ = name;
}

void ChatSession::forget() {
  turns_.clear();
  dropped_turns_ = 0;
}

void ChatSession::greet(const std::string& model) const {
  print(cat(model, ", template ", loaded_->chat_template->name(), ", context of ",
            loaded_->model->config.max_position_embeddings, " tokens. /help lists commands.\n"));
}

bool ChatSession::handle(const std::string& line) {
  try {
    if (trim(line).empty()) return true;
    if (line[0] == '/' && !line.starts_with("//")) {
      const size_t space = line.find(' ');
      const std::string argument =
          space == std::string::npos ? "" : std::string(trim(line.substr(space)));
      return run_command(line.substr(0, space), argument);
    }
    answer(line.starts_with("//") ? line.substr(1) : line);
  } catch (const Error& error) {
    log_error(error.what());
  }
  return !ended_;
}

bool ChatSession::run_command(const std::string& name, const std::string& argument) {
  if (name == "/quit" || name == "/exit") return false;
  if (name == "/help") {
    print(kHelp);
  } else if (name == "/clear") {
    forget();
  } else if (name == "/system") {
    set_system(argument);
  } else if (name == "/adapter") {
    set_adapter(argument);
  } else if (name == "/set") {
    set_option(argument);
  } else if (name == "/save") {
    save(argument);
  } else {
    const std::string close =
        nearest(name, {"/quit", "/help", "/clear", "/system", "/adapter", "/set", "/save"});
    fail_usage(name, "there is no such command",
               close.empty() ? "/help lists them" : cat("did you mean ", close, "?"));
  }
  return true;
}

void ChatSession::fail_unknown_key(const std::string& key) const {
  const std::string near = did_you_mean(*sampling_table_, key);
  fail_usage("/set", cat("there is no option \"", key, "\""),
             near.empty() ? "/set alone lists them" : near);
}

void ChatSession::set_option(const std::string& argument) {
  if (argument.empty()) {
    print(describe_values(*sampling_table_, provenance_));
    return;
  }
  const size_t space = argument.find(' ');
  if (space == std::string::npos) {
    if (find_option(*sampling_table_, argument) == nullptr) fail_unknown_key(argument);
    fail_usage("/set", cat("a value for ", argument, " is missing"), "/set KEY VALUE");
  }
  const std::string value(trim(argument.substr(space)));
  const std::string key = argument.substr(0, space);
  if (find_option(*sampling_table_, key) == nullptr) fail_unknown_key(key);
  set_from_text(*sampling_table_, key, {value}, "/set", provenance_);
}

void ChatSession::save(const std::filesystem::path& path) {
  if (path.empty()) fail_usage("/save", "a file name is missing", "/save FILE");
  if (turns_.empty()) fail_usage("/save", "there is no conversation yet");
  if (path != saved_ && std::filesystem::exists(path))
    fail_usage(path.string(), "the file exists already", "choose another name");
  ordered_json row = ordered_json::array();
  if (!system_.empty()) row.push_back({{"from", "system"}, {"value", system_}});
  for (const Message& turn : turns_) {
    const char* from = turn.role == Role::kUser ? "human" : "gpt";
    row.push_back({{"from", from}, {"value", turn.content}});
  }
  write_file_atomic(path, ordered_json{{"conversations", row}}.dump() + "\n");
  saved_ = path;
  log_info(cat(path.string(), ": ", turns_.size() / 2, " turns saved"));
}

void ChatSession::answer(const std::string& text) {
  std::vector<Message> messages;
  if (!system_.empty()) messages.push_back({Role::kSystem, system_});
  messages.insert(messages.end(), turns_.begin() + 2 * dropped_turns_, turns_.end());
  messages.push_back({Role::kUser, text});
  const FittedPrompt prompt =
      fit_prompt(*loaded_->chat_template, *loaded_->tokenizer, messages,
                 loaded_->model->config.max_position_embeddings, sampling_->max_new_tokens);
  dropped_turns_ += prompt.dropped_turns;
  if (prompt.dropped_turns > 0)
    log_info(cat("the first ", dropped_turns_, " turns no longer fit into the context"));

  // Another draw for each answer, the same ones in each session.
  SamplingConfig sampling = *sampling_;
  sampling.seed += answers_;
  clear_stop();
  install_stop_signals();
  const bool terminal = stdout_is_terminal();
  Request request;
  request.prompt = prompt.ids;
  request.sampling = sampling;
  request.extra_stops = loaded_->chat_template->stop_texts();
  request.adapter = adapter_;
  const GenerationResult result =
      generator_.generate(std::move(request), [&](std::string_view piece) {
        if (!piece.empty()) print(terminal ? terminal_safe(piece) : std::string(piece));
        return !stop_requested();
      });
  print(result.finish_reason == "cancelled" ? " [stopped]\n" : "\n");
  ended_ = stop_signal() == SIGTERM;
  clear_stop();
  ++answers_;
  if (!result.text.empty()) {
    turns_.push_back({Role::kUser, text});
    turns_.push_back({Role::kAssistant, result.text});
  }
}

}  // namespace llama2zh
