// The program: finds the verb in the table and turns errors into one line and an exit code (0 done,
// 1 error, 2 usage, 65 training diverged, 128 + signal stopped by it).
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "llama2zh/base/diverged.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/reason.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/commands/command.h"

namespace {

int run(int argc, char** argv) {
  try {
    return llama2zh::run_command_line(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const llama2zh::Diverged& error) {
    llama2zh::log_error(error.what());
    return error.kExitCode;
  } catch (const llama2zh::Error& error) {
    llama2zh::log_error(error.what());
    return error.exit_code();
  } catch (const llama2zh::Stopped& stopped) {
    llama2zh::log_info("stopped before the end: nothing was written");
    return 128 + stopped.signal();
  } catch (const std::bad_alloc&) {
    llama2zh::log_error(
        "out of memory: this model or batch does not fit; use a smaller micro_batch_size or "
        "block_size");
    return 1;
  } catch (const std::exception& error) {
    llama2zh::log_error(llama2zh::library_reason(error.what()));
    return 1;
  }
}

}  // namespace

// Ends without the destructors of globals: libtorch's unregister some thousand operators one by one,
// a third of the time that --help takes. Standard error has no buffer; a thread may be writing to it.
int main(int argc, char** argv) {
  const int code = run(argc, argv);
  std::fflush(stdout);
  std::_Exit(code);
}
