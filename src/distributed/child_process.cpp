// fork and exec by hand: posix_spawn can't ask for a signal at the parent's death. Everything that
// allocates happens before fork; a pipe that exec closes brings the error of a failed exec back.
#include "distributed/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int kExecFailed = 127;

using Pipe = std::array<int, 2>;

Pipe open_pipe() {
  Pipe ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail_io("launch", "no pipe for a rank's output", errno);
  return ends;
}

std::vector<std::string> environment_with(const Variables& variables) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('='));
    const bool replaced = std::any_of(variables.begin(), variables.end(),
                                      [&](const auto& variable) { return variable.first == name; });
    if (!replaced) result.push_back(text);
  }
  for (const auto& [name, value] : variables) result.push_back(cat(name, "=", value));
  return result;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

struct ChildSetup {
  char* const* command;
  char* const* environment;
  const sigset_t* mask;
  pid_t parent;
  int out, err, failure;  // -1: keep what the launcher has
};

// In the child, where only system calls are safe.
[[noreturn]] void become(const ChildSetup& setup) {
  const int input = ::open("/dev/null", O_RDONLY);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != setup.parent) ::_exit(kExecFailed);  // it died before prctl
  ::setpgid(0, 0);
  ::signal(SIGTTOU, SIG_IGN);  // a rank that draws its bar is not the terminal's foreground group
  if (input >= 0) ::dup2(input, STDIN_FILENO);
  if (setup.out >= 0) ::dup2(setup.out, STDOUT_FILENO);
  if (setup.err >= 0) ::dup2(setup.err, STDERR_FILENO);
  ::sigprocmask(SIG_SETMASK, setup.mask, nullptr);
  ::execvpe(setup.command[0], setup.command, setup.environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = ::write(setup.failure, &error, sizeof error);
  ::_exit(kExecFailed);
}

}  // namespace

ChildProcess start_child(const std::vector<std::string>& command, const Variables& variables,
                         const sigset_t& mask, bool own_output) {
  std::vector<std::string> words = command, settings = environment_with(variables);
  const std::vector<char*> argv = pointers_to(words), envp = pointers_to(settings);
  const Pipe failure = open_pipe();
  Pipe out = {-1, -1}, err = {-1, -1};
  if (!own_output) {
    out = open_pipe();
    err = open_pipe();
    ::fcntl(out[0], F_SETFL, O_NONBLOCK);
    ::fcntl(err[0], F_SETFL, O_NONBLOCK);
  }
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) become({argv.data(), envp.data(), &mask, parent, out[1], err[1], failure[1]});
  const int fork_error = errno;
  for (const int end : {failure[1], out[1], err[1]}) {
    if (end >= 0) ::close(end);
  }
  if (child < 0) fail_io("launch", "a rank's process can't be made", fork_error);
  int exec_error = 0;
  const ssize_t got = ::read(failure[0], &exec_error, sizeof exec_error);  // ends at exec
  ::close(failure[0]);
  if (got == static_cast<ssize_t>(sizeof exec_error)) {
    ::waitpid(child, nullptr, 0);
    for (const int end : {out[0], err[0]}) {
      if (end >= 0) ::close(end);
    }
    fail_usage(command[0], cat("can't be started: ", std::strerror(exec_error)),
               "name a program in --program");
  }
  return {child, out[0], err[0]};
}

}  // namespace llama2zh
