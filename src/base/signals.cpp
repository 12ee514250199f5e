// The handler does only what is safe in one: it stores a number, or leaves with _exit().
#include "llama2zh/base/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

std::atomic<int> pending_stop{0};
static_assert(std::atomic<int>::is_always_lock_free, "needed in a signal handler");

void handle_stop_signal(int signal) {
  int none = 0;
  if (!pending_stop.compare_exchange_strong(none, signal)) ::_exit(128 + signal);
}

std::atomic<bool> pending_reload{false};

void handle_reload_signal(int) { pending_reload = true; }

}  // namespace

void install_stop_signals() {
  struct sigaction action {};
  action.sa_handler = handle_stop_signal;
  action.sa_flags = SA_RESTART;  // libraries do not all expect EINTR
  sigemptyset(&action.sa_mask);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigemptyset(&ignore.sa_mask);
  if (::sigaction(SIGINT, &action, nullptr) != 0 || ::sigaction(SIGTERM, &action, nullptr) != 0 ||
      ::sigaction(SIGXFSZ, &ignore, nullptr) != 0) {
    fail_io("signals", "the handlers can't be installed", errno);
  }
}

void install_reload_signal() {
  struct sigaction action {};
  action.sa_handler = handle_reload_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  if (::sigaction(SIGHUP, &action, nullptr) != 0)
    fail_io("signals", "the handler of SIGHUP can't be installed", errno);
}
bool take_reload() { return pending_reload.exchange(false); }

bool stop_requested() { return pending_stop.load(std::memory_order_relaxed) != 0; }
int stop_signal() { return pending_stop.load(); }
void clear_stop() { pending_stop.store(0); }
void request_stop(int signal) { pending_stop.store(signal); }

void throw_if_stopped() {
  if (stop_requested()) throw Stopped(stop_signal());
}

}  // namespace llama2zh
