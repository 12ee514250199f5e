// ECMA-48: carriage return, then "erase to the end of the line" (CSI K).
#include "base/status_line.h"

#include <cstdio>

namespace llama2zh {
namespace {

struct StatusLine {
  std::mutex mutex;
  std::string text;
};

// Never destroyed: destructors of other static objects may still log.
StatusLine& status_line() {
  static StatusLine* line = new StatusLine;
  return *line;
}

void draw_status(const std::string& text) {
  const std::string drawn = "\r" + text + "\x1b[K";
  std::fwrite(drawn.data(), 1, drawn.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

void set_status_line(std::string_view text) {
  const std::lock_guard lock(status_line().mutex);
  status_line().text = text;
  draw_status(status_line().text);
}

void clear_status_line() {
  const std::lock_guard lock(status_line().mutex);
  if (status_line().text.empty()) return;
  status_line().text.clear();
  draw_status("");
}

StatusLinePause::StatusLinePause() : lock_(status_line().mutex) {
  if (!status_line().text.empty()) draw_status("");
}

StatusLinePause::~StatusLinePause() {
  if (!status_line().text.empty()) draw_status(status_line().text);
}

}  // namespace llama2zh
