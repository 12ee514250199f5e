// Line editing through libedit's wide-character API. libedit takes the width of characters from the
// locale, so a UTF-8 LC_CTYPE is set first: the user's, else C.UTF-8 (in containers there is often
// none). While a line is read, Ctrl-C is a key and not a signal: libedit restarts a read that a
// signal interrupts and would not come back.
#include "commands/terminal.h"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>

#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr int kHistoryLines = 1000;

void set_utf8_locale() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

std::string utf8_of(const wchar_t* text, int length) {
  std::string out;
  for (int i = 0; i < length; ++i) append_utf8(out, static_cast<char32_t>(text[i]));
  return out;
}

void require_utf8(const std::string& text) {
  if (!is_utf8(text))
    fail_data("standard input", "it is not UTF-8",
              "convert it, e.g. with iconv -f GB18030 -t UTF-8");
}

}  // namespace

std::string terminal_safe(std::string_view text) {
  std::string out;
  for (const char32_t c : utf8_to_codepoints(text)) {
    if (c == 0x7F || (c < 0x20 && c != '\n' && c != '\t')) {
      out += '^';
      out += static_cast<char>(c ^ 0x40);
    } else {
      append_utf8(out, c >= 0x80 && c < 0xA0 ? U'\uFFFD' : c);
    }
  }
  return out;
}

std::string read_standard_input() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  require_utf8(text);
  return text;
}

struct LineInput::Editor {
  explicit Editor(const std::string& prompt_text);
  ~Editor();
  static wchar_t* show_prompt(EditLine* line);
  static unsigned char interrupt(EditLine* line, wint_t key);

  EditLine* edit = nullptr;
  HistoryW* history = nullptr;
  std::wstring prompt;
  bool interrupted = false;
};

wchar_t* LineInput::Editor::show_prompt(EditLine* line) {
  Editor* self = nullptr;
  el_wget(line, EL_CLIENTDATA, &self);
  return self->prompt.data();
}

unsigned char LineInput::Editor::interrupt(EditLine* line, wint_t) {
  Editor* self = nullptr;
  el_wget(line, EL_CLIENTDATA, &self);
  self->interrupted = true;
  return CC_EOF;
}

LineInput::Editor::Editor(const std::string& prompt_text) {
  set_utf8_locale();
  for (const char32_t c : utf8_to_codepoints(prompt_text)) prompt += static_cast<wchar_t>(c);
  edit = el_init("llama2zh", stdin, stdout, stderr);
  if (edit == nullptr) fail_io("terminal", "line editing can't be started");
  history = history_winit();
  HistEventW event;
  history_w(history, &event, H_SETSIZE, kHistoryLines);
  history_w(history, &event, H_SETUNIQUE, 1);
  el_wset(edit, EL_CLIENTDATA, this);
  el_wset(edit, EL_PROMPT, &Editor::show_prompt);
  el_wset(edit, EL_EDITOR, L"emacs");
  el_wset(edit, EL_HIST, history_w, history);
  el_wset(edit, EL_SIGNAL, 1);  // it puts the terminal right before a signal ends the program
  el_wset(edit, EL_SETTY, L"-d", L"-isig", nullptr);
  el_wset(edit, EL_ADDFN, L"interrupt", L"drop the line", &Editor::interrupt);
  el_wset(edit, EL_BIND, L"^C", L"interrupt", nullptr);
}

LineInput::Editor::~Editor() {
  history_wend(history);
  el_end(edit);
}

LineInput::LineInput(const std::string& prompt) {
  if (isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0)
    editor_ = std::make_unique<Editor>(prompt);
}

LineInput::~LineInput() = default;

LineInput::Event LineInput::read(std::string& line) {
  // Waiting for the user, a signal has nothing to finish: it ends the program.
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
  if (!interactive()) {
    if (!std::getline(std::cin, line)) return Event::kEnd;
    if (line.ends_with('\r')) line.pop_back();
    require_utf8(line);
    return Event::kLine;
  }
  editor_->interrupted = false;
  int length = 0;
  const wchar_t* text = el_wgets(editor_->edit, &length);
  if (editor_->interrupted) {
    std::fputs("^C\n", stdout);
    return Event::kInterrupt;
  }
  if (text == nullptr || length <= 0) return Event::kEnd;
  line = utf8_of(text, length);
  while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
  if (!line.empty()) {
    HistEventW event;
    history_w(editor_->history, &event, H_ENTER, text);
  }
  return Event::kLine;
}

}  // namespace llama2zh
