#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <string_view>

namespace llama2zh {

// What one rank writes, as the launcher passes it on. Of rank 0 everything is shown as it comes; of
// the others whole lines with "[rank N] " before them, or, with a log folder, none. The last lines
// are kept for the report of a failure. One thread.
class RankOutput {
 public:
  static constexpr size_t kLinesKept = 20;

  // `log_dir` empty: no log. Otherwise lines are added to log_dir/rank-N.log, after one that says
  // which start this is; kIo if that can't be written.
  RankOutput(int64_t rank, const std::filesystem::path& log_dir, int64_t restart);
  ~RankOutput();
  RankOutput(const RankOutput&) = delete;
  RankOutput& operator=(const RankOutput&) = delete;

  // Bytes that arrived from its standard output (1) or error (2).
  void take(int stream, std::string_view bytes);
  void finish();  // unfinished last lines too
  const std::deque<std::string>& last_lines() const { return last_; }
  // The last line on standard error; on standard output if there was none.
  const std::string& last_words() const { return words_[1].empty() ? words_[0] : words_[1]; }

 private:
  void end_line(int stream, std::string& line);
  int64_t rank_;
  int log_ = -1;
  std::string unfinished_[2], words_[2];
  std::deque<std::string> last_;
};

}  // namespace llama2zh
