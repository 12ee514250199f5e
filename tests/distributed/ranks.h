#pragma once

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <vector>

#include "llama2zh/distributed/rank_environment.h"

namespace llama2zh {

inline int64_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address);
  socklen_t size = sizeof address;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return ntohs(address.sin_port);
}

// Ranks as forked children that meet on loopback. The test's own process must not have computed with
// torch before (threads do not survive a fork). Children that are left are killed at the end.
class ForkedRanks {
 public:
  ForkedRanks(int64_t size, const std::function<int(const RankEnvironment&)>& act) {
    RankEnvironment environment;
    environment.world_size = environment.local_world_size = size;
    environment.master_port = free_port();
    for (int64_t rank = 0; rank < size; ++rank) {
      environment.rank = environment.local_rank = rank;
      std::fflush(nullptr);
      const pid_t child = ::fork();
      if (child == 0) {
        ::alarm(120);
        int code = 99;
        try {
          code = act(environment);
        } catch (const std::exception& error) {
          std::fprintf(stderr, "rank %d: %s\n", static_cast<int>(rank), error.what());
        }
        std::fflush(nullptr);
        ::_exit(code);
      }
      pids_.push_back(child);
    }
  }
  ~ForkedRanks() {
    for (const pid_t pid : pids_) {
      if (pid > 0) ::kill(pid, SIGKILL), ::waitpid(pid, nullptr, 0);
    }
  }
  ForkedRanks(const ForkedRanks&) = delete;
  ForkedRanks& operator=(const ForkedRanks&) = delete;

  pid_t pid(size_t rank) const { return pids_[rank]; }
  // Exit codes by rank; minus the signal for one that a signal ended.
  std::vector<int> codes() {
    std::vector<int> result;
    for (pid_t& pid : pids_) {
      int status = 0;
      ::waitpid(pid, &status, 0);
      pid = 0;
      result.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    }
    return result;
  }

 private:
  std::vector<pid_t> pids_;
};

}  // namespace llama2zh
