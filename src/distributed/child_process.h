#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "llama2zh/distributed/launch.h"

namespace llama2zh {

// A process of its own group, so that the terminal's Ctrl-C reaches the launcher alone and a signal
// to the group reaches what a wrapper started; killed by the kernel when the launcher dies.
struct ChildProcess {
  pid_t pid = -1;
  int out = -1, err = -1;  // ends to read from, non-blocking; -1: it has the launcher's own
};

// Starts `command` (its first word is looked up in PATH) with `variables` added to the environment,
// the signal mask `mask` and /dev/null as standard input. kUsage if the program can't be started,
// kIo if the system has no room for one.
ChildProcess start_child(const std::vector<std::string>& command, const Variables& variables,
                         const sigset_t& mask, bool own_output);

}  // namespace llama2zh
