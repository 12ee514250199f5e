#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace llama2zh {

inline std::string text_of_file(const std::filesystem::path& path) {
  std::ifstream stream(path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Polls until `holds` or, after a generous time (the machine may be busy), gives up.
template <typename Condition>
bool wait_until(Condition&& holds, int seconds = 240) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

// The program that ctest names in LLAMA2ZH_BINARY, running with `args` in `folder`; what it writes goes to out.txt and err.txt there.
class StartedProgram {
 public:
  StartedProgram(const std::filesystem::path& folder, const std::vector<std::string>& args)
      : folder_(folder) {
    std::vector<std::string> words = {std::getenv("LLAMA2ZH_BINARY")};
    words.insert(words.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    // What a program before this one said there must not be taken for this one's; pipes stay.
    for (const char* name : {"out.txt", "err.txt"})
      if (std::filesystem::is_regular_file(folder / name)) std::filesystem::remove(folder / name);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const bool ready = ::chdir(folder.c_str()) == 0 && std::freopen("out.txt", "w", stdout) &&
                       std::freopen("err.txt", "w", stderr);
    if (ready) ::execv(argv[0], argv.data());
    ::_exit(99);
  }
  ~StartedProgram() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  StartedProgram(const StartedProgram&) = delete;
  StartedProgram& operator=(const StartedProgram&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  // Exit code, or 128 + signal.
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string err() const { return text_of_file(folder_ / "err.txt"); }
  std::string out() const { return text_of_file(folder_ / "out.txt"); }

 private:
  std::filesystem::path folder_;
  pid_t pid_ = -1;
};

}  // namespace llama2zh
