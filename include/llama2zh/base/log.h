#pragma once

#include <string_view>

namespace llama2zh {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// Messages go to standard error (standard output belongs to results), one line each, coloured on a
// terminal unless NO_COLOR is set. Control characters in `message` are escaped. Thread-safe. A
// progress bar on show is cleared first and redrawn.
void log_debug(std::string_view message);
void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);
void set_log_level(LogLevel level);

}  // namespace llama2zh
