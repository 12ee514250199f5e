#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <exception>

namespace llama2zh {

// Runs `act` in a forked child and returns its wait status. The child leaves with act()'s result
// (99 on an exception) and runs no destructor of the parent's objects.
template <typename Act>
int run_in_child(Act&& act) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = act();
    } catch (const std::exception&) {
    }
    ::_exit(code);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace llama2zh
