// One poll loop over a signalfd and the ranks' pipes. A rank's end is looked at while it is still a
// zombie, so that its process group can be killed without its number having gone to anybody else.
#include "distributed/supervisor.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// Wrappers (timeout, a batch system) may signal the launcher and its process group: one request.
constexpr double kOneSignal = 0.2;

double monotonic_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

std::string stop_name(int signal) { return signal == SIGINT ? "SIGINT" : "SIGTERM"; }

}  // namespace

struct Supervisor::Rank {
  explicit Rank(int64_t number, const SupervisorOptions& options, int64_t restart)
      : rank(number), output(number, options.log_dir, restart) {}
  ~Rank() {
    for (const int fd : {process.out, process.err}) {
      if (fd >= 0) ::close(fd);
    }
  }
  int64_t rank;
  ChildProcess process;
  bool running = false;
  RankOutput output;
};

Supervisor::Supervisor(SupervisorOptions options) : options_(std::move(options)) {
  sigset_t mine;
  sigemptyset(&mine);
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&mine, signal);
  if (::sigprocmask(SIG_BLOCK, &mine, &outer_mask_) != 0)
    fail_io("launch", "signals can't be blocked", errno);
  signals_ = ::signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_ < 0) fail_io("launch", "no descriptor for signals", errno);
}

Supervisor::~Supervisor() {
  // Only after an error are ranks left here.
  for (const auto& rank : ranks_) {
    if (!rank->running) continue;
    ::kill(-rank->process.pid, SIGKILL);
    ::waitpid(rank->process.pid, nullptr, 0);
  }
  ::close(signals_);
  // After a stop the program only ends; a signal that came a little later must not change its exit code.
  if (stop_signal_ == 0) ::sigprocmask(SIG_SETMASK, &outer_mask_, nullptr);
}

StartResult Supervisor::run(const std::vector<RankCommand>& commands, int64_t restart) {
  failure_.reset();
  kill_at_ = 0;
  ranks_.clear();
  read_signals();  // a stop asked for between two starts
  unsaved_ = stop_signal_ != 0;
  if (stop_signal_ == 0) start(commands, restart);
  const auto any_running = [&] {
    return std::any_of(ranks_.begin(), ranks_.end(), [](const auto& r) { return r->running; });
  };
  while (any_running()) wait_for_events();
  for (const auto& rank : ranks_) {
    read_output(*rank);
    rank->output.finish();
    if (failure_ && failure_->rank == rank->rank) {
      const auto& lines = rank->output.last_lines();
      failure_->last_lines.assign(lines.begin(), lines.end());
      failure_->last_words = rank->output.last_words();
    }
  }
  return result();
}

void Supervisor::start(const std::vector<RankCommand>& commands, int64_t restart) {
  for (const RankCommand& command : commands) {
    ranks_.push_back(std::make_unique<Rank>(command.rank, options_, restart));
    const bool own_output = command.rank == 0 && options_.rank0_on_terminal;
    ranks_.back()->process = start_child(command.words, command.variables, outer_mask_, own_output);
    ranks_.back()->running = true;
  }
}

void Supervisor::wait_for_events() {
  std::vector<pollfd> watched = {{signals_, POLLIN, 0}};
  for (const auto& rank : ranks_) {
    for (const int fd : {rank->process.out, rank->process.err}) {
      if (fd >= 0) watched.push_back({fd, POLLIN, 0});
    }
  }
  int timeout = -1;
  if (kill_at_ > 0) {
    timeout = std::max(0, static_cast<int>((kill_at_ - monotonic_seconds()) * 1000) + 1);
  }
  ::poll(watched.data(), watched.size(), timeout);
  for (const auto& rank : ranks_) read_output(*rank);
  read_signals();
  reap();
  if (kill_at_ > 0 && monotonic_seconds() >= kill_at_) {
    kill_at_ = 0;
    log_warning(
        cat("ranks still run ", options_.shutdown_timeout, " s after SIGTERM: killing them"));
    signal_all(SIGKILL);
  }
}

void Supervisor::read_output(Rank& rank) {
  std::array<char, 16384> buffer;
  for (int* fd : {&rank.process.out, &rank.process.err}) {
    const int stream = fd == &rank.process.out ? STDOUT_FILENO : STDERR_FILENO;
    while (*fd >= 0) {
      const ssize_t n = ::read(*fd, buffer.data(), buffer.size());
      if (n > 0) {
        rank.output.take(stream, {buffer.data(), static_cast<size_t>(n)});
        continue;
      }
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      ::close(*fd);  // its end
      *fd = -1;
    }
  }
}

void Supervisor::read_signals() {
  signalfd_siginfo info{};
  while (::read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) continue;
    if (stop_signal_ == 0) {
      stop_signal_ = signal;
      stopped_at_ = monotonic_seconds();
      if (ranks_.empty() || failure_) continue;
      log_info(cat(stop_name(signal), ": passed on to the ranks, which save and end; a second one ",
                   "kills them"));
      signal_all(signal);
    } else if (monotonic_seconds() - stopped_at_ > kOneSignal) {
      killed_ = true;
      log_warning(cat("a second signal, ", stop_name(signal), ": killing the ranks"));
      signal_all(SIGKILL);
    }
  }
}

// Of ranks found ended together the one that a signal killed is named: the others saw it go.
void Supervisor::reap() {
  std::vector<std::pair<Rank*, int>> ended;
  for (const auto& rank : ranks_) {
    if (!rank->running) continue;
    const pid_t pid = rank->process.pid;
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid != pid) {
      continue;
    }
    ::kill(-pid, SIGKILL);  // what it has started and left behind
    int status = 0;
    ::waitpid(pid, &status, 0);
    rank->running = false;
    ended.emplace_back(rank.get(), status);
  }
  std::stable_partition(ended.begin(), ended.end(),
                        [](const auto& end) { return WIFSIGNALED(end.second); });
  for (const auto& [rank, status] : ended) note_end(*rank, status);
}

void Supervisor::note_end(Rank& rank, int status) {
  const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  if (failure_ || killed_ || (signal == 0 && exit_code == 0)) return;
  if (stop_signal_ != 0 && (signal == stop_signal_ || exit_code == 128 + stop_signal_)) {
    unsaved_ = true;
    return;
  }
  failure_ = RankFailure{rank.rank, rank.process.pid, exit_code, signal, {}, {}};
  kill_at_ = monotonic_seconds() + options_.shutdown_timeout;
  if (stop_signal_ == 0)
    signal_all(SIGTERM);  // else they have it, and a second one is not for them
}

void Supervisor::signal_all(int signal) {
  for (const auto& rank : ranks_) {
    if (rank->running) ::kill(-rank->process.pid, signal);
  }
}

StartResult Supervisor::result() const {
  StartResult result;
  result.signal = stop_signal_;
  result.failure = failure_;
  if (killed_) {
    result.end = StartEnd::kKilled;
  } else if (failure_) {
    result.end = StartEnd::kFailed;
  } else if (stop_signal_ != 0) {
    result.end = unsaved_ ? StartEnd::kUnsaved : StartEnd::kStopped;
  }
  return result;
}

}  // namespace llama2zh
