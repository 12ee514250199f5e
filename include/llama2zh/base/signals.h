#pragma once

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

}  // namespace llama2zh
