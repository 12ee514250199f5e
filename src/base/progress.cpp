// The rate is that of the work seen since the first update(), so that a resumed run, which starts
// at step 500, and a slow first step do not distort it.
#include "llama2zh/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/status_line.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr int kBarColumns = 20, kShortestBar = 5;

double seconds_between(std::chrono::steady_clock::time_point from,
                       std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::string rate_text(double rate) {
  char text[32];
  if (rate >= 1000) return with_thousands(static_cast<int64_t>(std::min(rate, 1e18)));
  std::snprintf(text, sizeof text, rate >= 100 ? "%.0f" : rate >= 1 ? "%.1f" : "%.3f", rate);
  return text;
}

std::string bar_text(double part, int width) {
  const int full = std::clamp(static_cast<int>(part * width), 0, width);
  std::string text = "[";
  text.append(static_cast<size_t>(full), '=');
  if (full < width) text += '>';
  if (full + 1 < width) text.append(static_cast<size_t>(width - full - 1), ' ');
  return text + "]";
}

// The longest start of `text` that fits into `columns`.
std::string fit_columns(const std::string& text, int columns) {
  std::string fitting;
  int used = 0;
  for (const char32_t codepoint : utf8_to_codepoints(text)) {
    std::string character;
    append_utf8(character, codepoint);
    used += static_cast<int>(display_width(character));
    if (used > columns) break;
    fitting += character;
  }
  return fitting;
}

void write_stderr_line(const std::string& text) {
  const StatusLinePause pause;
  const std::string line = text + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

Progress::Progress(std::string_view title, int64_t total, std::string_view unit,
                   double plain_interval)
    : title_(title),
      unit_(unit),
      total_(total),
      plain_interval_(plain_interval),
      terminal_(stderr_is_terminal()),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (terminal_ && !finished_) clear_status_line();
}

void Progress::update(int64_t done, std::string_view note) {
  const auto now = std::chrono::steady_clock::now();
  const bool first = first_done_ < 0;
  if (first) {
    first_done_ = done;
    start_ = now;
  }
  done_ = done;
  note_ = note;
  finished_ = false;
  const double interval = terminal_ ? kRedrawSeconds : plain_interval_;
  if (seconds_between(last_, now) < interval && !(first && terminal_)) return;
  last_ = now;
  if (terminal_) {
    set_status_line(fit_columns(line(note_, /*bar=*/true), terminal_width() - 1));
  } else {
    write_stderr_line(line(note_, /*bar=*/false));
  }
}

void Progress::finish(std::string_view note) {
  if (finished_) return;
  finished_ = true;
  if (!note.empty()) note_ = note;
  if (terminal_) clear_status_line();
  write_stderr_line(line(note_, /*bar=*/false));
}

std::string Progress::line(std::string_view note, bool bar) const {
  const double elapsed = seconds_between(start_, std::chrono::steady_clock::now());
  const double part =
      static_cast<double>(done_) / static_cast<double>(std::max<int64_t>(1, total_));
  std::string text;
  if (total_ > 0) {
    char percent[16];
    std::snprintf(percent, sizeof percent, " (%.0f%%)", 100 * part);
    text += with_thousands(done_) + "/" + with_thousands(total_) + " " + unit_ + percent;
  } else {
    text += with_thousands(done_) + " " + unit_;
  }
  const int64_t seen = done_ - std::max<int64_t>(first_done_, 0);
  const double rate = elapsed > 0 ? static_cast<double>(seen) / elapsed : 0;
  if (rate > 0) text += ", " + rate_text(rate) + " " + unit_ + "/s";
  text += ", " + human_duration(elapsed);
  if (!finished_ && rate > 0 && total_ > done_) {
    text += ", ETA " + human_duration(static_cast<double>(total_ - done_) / rate);
  }
  if (!note.empty()) text += cat(", ", note);
  // The bar takes the columns that the numbers leave.
  const int used = static_cast<int>(display_width(title_) + display_width(text)) + 5;
  const int width = std::min(kBarColumns, terminal_width() - 1 - used);
  const bool with_bar = bar && total_ > 0 && width >= kShortestBar;
  return title_ + ": " + (with_bar ? bar_text(part, width) + " " : "") + text;
}

bool stderr_is_terminal() { return ::isatty(STDERR_FILENO) == 1; }
bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) == 1; }
bool use_colour() { return stdout_is_terminal() && std::getenv("NO_COLOR") == nullptr; }

int terminal_width() {
  winsize size{};
  for (const int fd : {STDERR_FILENO, STDOUT_FILENO}) {
    if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  }
  const char* columns = std::getenv("COLUMNS");
  const int width = columns != nullptr ? std::atoi(columns) : 0;
  return width >= 20 && width <= 1000 ? width : 80;
}

}  // namespace llama2zh
