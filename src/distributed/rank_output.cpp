// Lines are written with one call each, so that those of several ranks don't mix.
#include "distributed/rank_output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "llama2zh/base/error.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr size_t kLongestLine = 8192;  // longer ones are cut in pieces
constexpr size_t kLongestKept = 500;

// What can't be written (a full disk, a reader that went) is lost: the ranks go on.
void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

RankOutput::RankOutput(int64_t rank, const std::filesystem::path& log_dir, int64_t restart)
    : rank_(rank) {
  if (log_dir.empty()) return;
  const std::filesystem::path file = log_dir / cat("rank-", rank, ".log");
  log_ = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_ < 0) fail_io(file.string(), "the log can't be written", errno);
  write_all(log_, cat("==== start ", restart + 1, " of rank ", rank, " ====\n"));
}

RankOutput::~RankOutput() {
  if (log_ >= 0) ::close(log_);
}

void RankOutput::take(int stream, std::string_view bytes) {
  if (rank_ == 0) write_all(stream, bytes);
  std::string& line = unfinished_[stream == STDOUT_FILENO ? 0 : 1];
  for (const char c : bytes) {
    if (c != '\n') line += c;
    if (c == '\n' || line.size() >= kLongestLine) end_line(stream, line);
  }
}

void RankOutput::finish() {
  if (!unfinished_[0].empty()) end_line(STDOUT_FILENO, unfinished_[0]);
  if (!unfinished_[1].empty()) end_line(STDERR_FILENO, unfinished_[1]);
}

void RankOutput::end_line(int stream, std::string& line) {
  if (log_ >= 0) write_all(log_, line + "\n");
  if (rank_ != 0 && log_ < 0) {
    // Rank 0's bar, if it draws one, is cleared first; it comes back with its next update.
    const bool terminal = stream == STDERR_FILENO ? stderr_is_terminal() : stdout_is_terminal();
    write_all(stream, cat(terminal ? "\r\x1b[K" : "", "[rank ", rank_, "] ", line, "\n"));
  }
  if (last_.size() == kLinesKept) last_.pop_front();
  last_.push_back(line.substr(0, kLongestKept));
  words_[stream == STDOUT_FILENO ? 0 : 1] = last_.back();
  line.clear();
}

}  // namespace llama2zh
