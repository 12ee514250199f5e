// The only file that sees spdlog: its fmt and the one inside torch's headers do not agree.
#include "llama2zh/base/log.h"

#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/status_line.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

spdlog::logger& stderr_logger() {
  // Never destroyed: destructors of other static objects may still log.
  static spdlog::logger* logger = [] {
    const bool colour = stderr_is_terminal() && std::getenv("NO_COLOR") == nullptr;
    auto sink = std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(
        colour ? spdlog::color_mode::always : spdlog::color_mode::never);
    auto* made = new spdlog::logger("llama2zh", std::move(sink));
    made->set_pattern("%H:%M:%S %^%l%$: %v");
    made->set_level(spdlog::level::info);
    return made;
  }();
  return *logger;
}

// A message is one line and can't steer the terminal: what it quotes may come from strangers.
std::string escape_controls(std::string_view message) {
  std::string clean;
  for (const char32_t c : utf8_to_codepoints(message)) {
    if (c == '\n') {
      clean += "\\n";
    } else if (c == '\r') {
      clean += "\\r";
    } else if (c == '\t') {
      clean += "\\t";
    } else if (c < 0x20 || (c >= 0x7F && c <= 0x9F)) {
      char text[8];
      std::snprintf(text, sizeof text, "\\x%02x", static_cast<unsigned>(c));
      clean += text;
    } else {
      append_utf8(clean, c);
    }
  }
  return clean;
}

void log_at(spdlog::level::level_enum level, std::string_view message) {
  spdlog::logger& logger = stderr_logger();
  if (!logger.should_log(level)) return;
  const std::string clean = escape_controls(message);
  const StatusLinePause pause;
  logger.log(level, spdlog::string_view_t(clean.data(), clean.size()));
}

}  // namespace

void log_debug(std::string_view message) { log_at(spdlog::level::debug, message); }
void log_info(std::string_view message) { log_at(spdlog::level::info, message); }
void log_warning(std::string_view message) { log_at(spdlog::level::warn, message); }
void log_error(std::string_view message) { log_at(spdlog::level::err, message); }

void set_log_level(LogLevel level) {
  const auto spdlog_level = [level] {
    switch (level) {
      case LogLevel::kDebug:
        return spdlog::level::debug;
      case LogLevel::kInfo:
        return spdlog::level::info;
      case LogLevel::kWarning:
        return spdlog::level::warn;
      case LogLevel::kError:
        return spdlog::level::err;
      case LogLevel::kOff:
        break;
    }
    return spdlog::level::off;
  }();
  stderr_logger().set_level(spdlog_level);
}

}  // namespace llama2zh
