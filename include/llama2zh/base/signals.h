#pragma once

#include <exception>

namespace llama2zh {

// SIGINT and SIGTERM ask for a stop: the first sets the flag that long loops poll, the second ends
// the process at once (exit 130 or 143). Without install_stop_signals() signals keep their default
// effect. System calls that a signal interrupts are restarted. install_stop_signals() also ignores
// SIGXFSZ, so that a write beyond a file size limit is an error (EFBIG) instead of the end.
void install_stop_signals();
bool stop_requested();
int stop_signal();              // SIGINT, SIGTERM or 0
void clear_stop();              // for a terminal chat, where Ctrl-C stops one answer
void request_stop(int signal);  // as if the signal had come; for tests

// SIGHUP asks a server to read its files again. take_reload() is true once for each time it came.
void install_reload_signal();
bool take_reload();

// Thrown where work is given up because a stop was asked for: not an error. Unwinding removes what
// is half written; the program says so in one line and ends with 128 + signal.
class Stopped : public std::exception {
 public:
  explicit Stopped(int signal) : signal_(signal) {}
  int signal() const { return signal_; }
  const char* what() const noexcept override { return "stopped by a signal"; }

 private:
  int signal_;
};
void throw_if_stopped();  // for loops whose work can be thrown away

}  // namespace llama2zh
