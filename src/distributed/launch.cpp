// Start, watch, report, start again. On several hosts each launcher counts its own restarts: a rank
// that fails on one host breaks the others' connections, so that every launcher counts the same. The
// port goes up with the count: ranks of an earlier start can't be met by mistake.
#include "llama2zh/distributed/launch.h"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "distributed/meeting_port.h"
#include "distributed/supervisor.h"
#include "llama2zh/base/diverged.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int kUsageExitCode = 2;

// Whether the ranks would come to the same end again.
bool is_final(const RankFailure& failure) {
  return failure.exit_code == kUsageExitCode || failure.exit_code == Diverged::kExitCode;
}

std::optional<std::string> own_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

// Found out on host 0 before anything is started; the other hosts go by the plan.
int64_t port_of_start(const LaunchPlan& plan, int64_t restart) {
  if (plan.nnodes == 1 && plan.master_port == 0) return free_port(plan.master_addr);
  const int64_t port = plan.master_port + (plan.nnodes > 1 ? restart : 0);
  if (plan.node_rank == 0) check_port(plan.master_addr, port);
  return port;
}

std::vector<RankCommand> commands_of_start(const LaunchPlan& plan, const LaunchConfig& config,
                                           const CommandOfStart& command, int64_t restart) {
  const std::vector<std::string> words = command(restart);
  const int64_t port = port_of_start(plan, restart);
  std::vector<RankCommand> commands;
  for (int64_t local = 0; local < plan.processes; ++local) {
    commands.push_back({plan.node_rank * plan.processes + local, words,
                        rank_variables(plan, config, own_variable, local, restart, port)});
  }
  const bool one = plan.processes == 1;
  log_info(cat("launch: ", plan.processes, one ? " process" : " processes", " of ",
               plan.world_size(), ", meeting at ", plan.master_addr, " port ", port));
  return commands;
}

std::string who(const RankFailure& failure) {
  return cat("rank ", failure.rank, " on ", host_name(), " (pid ", failure.pid, ")");
}

std::string how_it_ended(const RankFailure& failure) {
  if (failure.signal == 0) return cat("ended with exit code ", failure.exit_code);
  return cat("was killed by signal ", failure.signal, " (", ::strsignal(failure.signal), ")");
}

// Rank 0's were shown as they came, and nothing of another rank stands behind them.
void print_last_lines(const RankFailure& failure) {
  if (failure.last_lines.empty() || failure.rank == 0) return;
  log_info(cat("the last lines of rank ", failure.rank, ":"));
  for (const std::string& line : failure.last_lines) log_info(cat("  | ", line));
}

[[noreturn]] void fail_with(const RankFailure& failure) {
  std::string problem = how_it_ended(failure);
  if (!failure.last_words.empty() && failure.rank != 0)
    problem += cat(", after: ", failure.last_words);
  const bool above = failure.last_lines.empty() || failure.rank == 0;
  std::string remedy = above ? "its output is above" : "";
  if (failure.signal == SIGKILL) {
    remedy = "if nobody killed it, the host ran out of memory (see dmesg)";
  }
  if (failure.exit_code == Diverged::kExitCode) throw Diverged(who(failure), problem, remedy);
  const bool usage = failure.exit_code == kUsageExitCode;
  throw Error(usage ? ErrorKind::kUsage : ErrorKind::kIo, who(failure), problem, remedy);
}

void make_log_folder(const std::string& folder) {
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail_io(folder, "the folder for logs can't be made", error.value());
}

}  // namespace

int launch_ranks(const LaunchPlan& plan, const LaunchConfig& config,
                 const CommandOfStart& command) {
  make_log_folder(config.log_dir);
  Supervisor supervisor({.shutdown_timeout = config.shutdown_timeout,
                         .log_dir = config.log_dir,
                         .rank0_on_terminal = stderr_is_terminal() && config.log_dir.empty()});
  for (int64_t restart = 0;; ++restart) {
    const StartResult start =
        supervisor.run(commands_of_start(plan, config, command, restart), restart);
    switch (start.end) {
      case StartEnd::kFinished:
      case StartEnd::kStopped:
        return 0;
      case StartEnd::kUnsaved:
      case StartEnd::kKilled:
        return 128 + start.signal;
      case StartEnd::kFailed:
        break;
    }
    const RankFailure& failure = *start.failure;
    print_last_lines(failure);
    const bool last = restart == config.max_restarts;
    if (is_final(failure) || start.signal != 0 || last) fail_with(failure);
    log_warning(cat(who(failure), " ", how_it_ended(failure),
                    ": starting all ranks again (restart ", restart + 1, " of ",
                    config.max_restarts, ")"));
  }
}

}  // namespace llama2zh
