#pragma once

#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/load.h"
#include "llama2zh/engine/generator.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {

struct ChatOptions {
  std::string system;
  std::string template_name;
  std::string use_adapter;
  static auto options() {
    return std::tuple(
        option("system", &ChatOptions::system, "System text; empty: the template's own."),
        option("template", &ChatOptions::template_name,
               "Chat template; empty: the one stored with the model or adapter."),
        option("use_adapter", &ChatOptions::use_adapter,
               "Which of the adapters given as NAME=DIR answers; /adapter changes it."));
  }
};

// One conversation: history, commands and answers, printed to standard output.
class ChatSession {
 public:
  // `loaded` has a chat template. `sampling` is the object that `sampling_table` is bound to: /set
  // changes it. All three must outlive the session.
  ChatSession(const LoadedModel& loaded, SamplingConfig& sampling,
              const OptionTable& sampling_table, const EngineConfig& engine);

  void set_adapter(const std::string& name);  // kData if there is none of the name

  // kData if the template has no place for a system text. Empty: the template's own.
  void set_system(const std::string& text);
  void greet(const std::string& model) const;
  // A line from the user, message or command. Its errors are printed, not thrown. False: the user
  // wants to leave, or SIGTERM came.
  bool handle(const std::string& line);
  bool ended() const { return ended_; }  // by SIGTERM

 private:
  bool run_command(const std::string& name, const std::string& argument);
  void set_option(const std::string& argument);
  [[noreturn]] void fail_unknown_key(const std::string& key) const;
  void save(const std::filesystem::path& path);
  void forget();
  void answer(const std::string& text);

  const LoadedModel* loaded_;
  SamplingConfig* sampling_;
  const OptionTable* sampling_table_;
  Provenance provenance_;
  Generator generator_;
  std::string system_, adapter_;
  std::vector<Message> turns_;  // user, assistant, user, assistant, ...
  int64_t dropped_turns_ = 0;   // the first of turns_ that no longer go into the prompt
  bool ended_ = false;          // SIGTERM came during an answer
  int64_t answers_ = 0;
  std::filesystem::path saved_;  // by this session: may be written again
};

}  // namespace llama2zh
