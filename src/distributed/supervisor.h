#pragma once

#include <signal.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "distributed/child_process.h"
#include "distributed/rank_output.h"

namespace llama2zh {

struct RankCommand {
  int64_t rank = 0;
  std::vector<std::string> words;
  Variables variables;
};

// The first rank that failed in one start.
struct RankFailure {
  int64_t rank = 0;
  pid_t pid = -1;
  int exit_code = 0;  // or, when it is 0,
  int signal = 0;     // the signal that killed it
  std::vector<std::string> last_lines;
  std::string last_words;
};

enum class StartEnd {
  kFinished,  // every rank ended with 0
  kStopped,   // after a signal to the launcher, the ranks ended by themselves
  kUnsaved,   // the same, but a rank knew the signal's default effect only
  kKilled,    // after a second signal
  kFailed,    // a rank failed, the others were ended
};
struct StartResult {
  StartEnd end = StartEnd::kFinished;
  int signal = 0;  // that the launcher got
  std::optional<RankFailure> failure;
};

struct SupervisorOptions {
  double shutdown_timeout = 5;
  std::filesystem::path log_dir;
  bool rank0_on_terminal = false;  // rank 0 gets the launcher's own output
};

// Starts ranks and waits for them, as often as it is asked to. While it lives SIGINT, SIGTERM and
// SIGCHLD of the process come to it.
class Supervisor {
 public:
  explicit Supervisor(SupervisorOptions options);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  StartResult run(const std::vector<RankCommand>& commands, int64_t restart);

 private:
  struct Rank;
  void start(const std::vector<RankCommand>& commands, int64_t restart);
  void wait_for_events();
  void read_output(Rank& rank);
  void read_signals();
  void reap();
  void note_end(Rank& rank, int status);
  void signal_all(int signal);
  StartResult result() const;

  SupervisorOptions options_;
  sigset_t outer_mask_{};
  int signals_ = -1;
  std::vector<std::unique_ptr<Rank>> ranks_;
  int stop_signal_ = 0;  // passed on to the ranks
  double stopped_at_ = 0;
  bool unsaved_ = false, killed_ = false;
  std::optional<RankFailure> failure_;
  double kill_at_ = 0;  // monotonic seconds; 0: no deadline
};

}  // namespace llama2zh
