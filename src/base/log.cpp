// The only file that sees spdlog: its fmt and the one inside torch's headers do not agree.
#include "llama2zh/base/log.h"

#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "base/status_line.h"
#include "llama2zh/base/log_thread.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

using StderrSink = spdlog::sinks::ansicolor_stderr_sink<spdlog::details::console_mutex>;

// A progress bar makes room for what is written.
class CarefulSink final : public StderrSink {
 public:
  CarefulSink(spdlog::color_mode mode, const char* pattern) : StderrSink(mode) {
    set_pattern(pattern);
  }
  void log(const spdlog::details::log_msg& message) override {
    const StatusLinePause pause;
    StderrSink::log(message);
    ++written_;
  }
  int64_t written() const { return written_; }

 private:
  std::atomic<int64_t> written_ = 0;
};

// A logger that writes itself, and while there is a LogThread another that has its thread write.
class Channel {
 public:
  Channel(spdlog::color_mode mode, const char* pattern)
      : sink_(std::make_shared<CarefulSink>(mode, pattern)),
        direct_("llama2zh", sink_),
        used_(&direct_) {}
  spdlog::logger& logger() { return *used_; }
  void set_level(spdlog::level::level_enum level) {
    direct_.set_level(level);
    if (threaded_) threaded_->set_level(level);
  }
  void begin(const std::shared_ptr<spdlog::details::thread_pool>& pool) {
    threaded_ = std::make_shared<spdlog::async_logger>(
        "llama2zh", sink_, pool, spdlog::async_overflow_policy::overrun_oldest);
    threaded_->set_level(direct_.level());
    used_ = threaded_.get();
  }
  void end() { used_ = &direct_; }
  int64_t written() const { return sink_->written(); }

 private:
  std::shared_ptr<CarefulSink> sink_;
  spdlog::logger direct_;
  std::shared_ptr<spdlog::async_logger> threaded_;
  std::atomic<spdlog::logger*> used_;
};

constexpr size_t kWaitingLines = 8192;

struct Channels {
  Channel messages, lines;
  std::atomic<int64_t> said = 0;  // of both
  std::shared_ptr<spdlog::details::thread_pool> pool = nullptr;
  std::atomic<int64_t> lost = 0;  // of earlier pools

  int64_t all_lost() const {
    return lost + (pool ? static_cast<int64_t>(pool->overrun_counter()) : 0);
  }
  int64_t waiting() const { return said - messages.written() - lines.written() - all_lost(); }
};

Channels& channels() {
  // Never destroyed: destructors of other static objects may still log.
  static Channels* made = [] {
    const bool colour = stderr_is_terminal() && std::getenv("NO_COLOR") == nullptr;
    const auto mode = colour ? spdlog::color_mode::always : spdlog::color_mode::never;
    auto* out = new Channels{{mode, "%H:%M:%S %^%l%$: %v"}, {spdlog::color_mode::never, "%v"}};
    out->messages.set_level(spdlog::level::info);
    out->lines.set_level(spdlog::level::info);
    return out;
  }();
  return *made;
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
  spdlog::logger& logger = channels().messages.logger();
  if (!logger.should_log(level)) return;
  const std::string clean = escape_controls(message);
  ++channels().said;
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
  channels().messages.set_level(spdlog_level);
}

void log_plain(std::string_view line) {
  ++channels().said;
  channels().lines.logger().log(spdlog::level::info,
                                spdlog::string_view_t(line.data(), line.size()));
}

LogThread::LogThread() {
  Channels& all = channels();
  all.pool = std::make_shared<spdlog::details::thread_pool>(kWaitingLines, 1);
  all.messages.begin(all.pool);
  all.lines.begin(all.pool);
}

LogThread::~LogThread() {
  Channels& all = channels();
  all.messages.end();
  all.lines.end();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (all.waiting() > 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  all.lost += static_cast<int64_t>(all.pool->overrun_counter());
  // A thread that is stuck in a write is left to the end of the process.
  if (all.waiting() > 0) {
    using Pool = std::shared_ptr<spdlog::details::thread_pool>;
    static_cast<void>(std::make_unique<Pool>(all.pool).release());
  }
  all.pool.reset();
}

int64_t lost_log_lines() { return channels().all_lost(); }

}  // namespace llama2zh
