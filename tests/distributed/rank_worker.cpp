// A rank without a training: meets the others as the environment says and adds with them, for the tests of launchers and hosts.
//   rank_worker sum          one sum; rank 0 writes what it is and who is there
//   rank_worker forever FILE sums until a rank is lost or SIGTERM comes; rank 0 makes FILE when the first is done
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "llama2zh/base/error.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/distributed/process_group.h"

namespace llama2zh {
namespace {

constexpr auto kPatience = std::chrono::seconds(15);  // generous where the machine is busy

int work(const std::string& mode, const std::string& file) {
  install_stop_signals();
  const RankEnvironment environment = read_rank_environment();
  ProcessGroup group(environment, at::kCPU, kPatience);
  const double rank = static_cast<double>(environment.rank);
  bool stop = false;
  do {
    const auto sums = group.sum({1, rank, environment.local_rank == 0 ? 1.0 : 0.0}, "the sum");
    if (group.is_first()) {
      std::printf("%s: %.0f ranks, sum %.0f, hosts %.0f, at %s\n", environment.launcher.c_str(),
                  sums[0], sums[1], sums[2], environment.master_addr.c_str());
      if (!file.empty()) std::ofstream(file) << "there";
    }
    stop = mode == "sum" || group.any(stop_requested(), "whether to stop");
    if (!stop) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  } while (!stop);
  group.barrier("the end");
  return 0;
}

}  // namespace
}  // namespace llama2zh

int main(int argc, char** argv) {
  try {
    return llama2zh::work(argc > 1 ? argv[1] : "sum", argc > 2 ? argv[2] : "");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
