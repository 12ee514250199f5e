#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace llama2zh {

// What a model says, fit for a terminal: control characters other than newline and tab (escape
// sequences could rewrite the screen) shown as ^X or U+FFFD. Whole characters only.
std::string terminal_safe(std::string_view text);

// All of standard input as UTF-8 text without the newline at its end; kData if it is not UTF-8.
std::string read_standard_input();

// Lines from the user: with editing and history (libedit) when standard input and output are a
// terminal, plain otherwise. Lines are UTF-8; one that is not is a kData error. read() gives SIGINT
// and SIGTERM their default effect: call install_stop_signals() before the next answer.
class LineInput {
 public:
  enum class Event { kLine, kInterrupt, kEnd };  // kInterrupt: Ctrl-C, the line is gone
  explicit LineInput(const std::string& prompt);
  ~LineInput();
  LineInput(const LineInput&) = delete;
  LineInput& operator=(const LineInput&) = delete;
  bool interactive() const { return editor_ != nullptr; }
  Event read(std::string& line);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace llama2zh
