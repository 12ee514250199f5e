#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "llama2zh/config/option.h"
#include "llama2zh/distributed/rank_environment.h"

namespace llama2zh {

// What `llama2zh launch` is told before its "--". Names are torchrun's.
struct LaunchConfig {
  std::string nproc_per_node = "auto";
  std::optional<int64_t> nnodes;
  std::optional<int64_t> node_rank;
  std::string master_addr;
  int64_t master_port = 0;
  int64_t max_restarts = 0;
  double shutdown_timeout = 5;
  std::string log_dir;
  std::string program;
  static auto options() {
    using T = LaunchConfig;
    return std::tuple(
        option("nproc_per_node", &T::nproc_per_node,
               "Processes on this host; auto: one for each visible GPU."),
        option("nnodes", &T::nnodes,
               "Hosts; each runs this command. none: 1, or the tasks of srun or mpirun where they "
               "start one launcher a host.",
               between(1, 65536)),
        option("node_rank", &T::node_rank,
               "Which of the hosts this is, from 0. none: as srun or mpirun say.",
               between(0, 65535)),
        option("master_addr", &T::master_addr,
               "Address of host 0, at which the ranks meet; its port is open at this address only. "
               "Empty: 127.0.0.1 on one host."),
        option("master_port", &T::master_port,
               "Port there. 0: a free one on one host, 29500 on several. On several hosts every "
               "restart takes the next number.",
               between(0, 65535)),
        option("max_restarts", &T::max_restarts,
               "How often all ranks are started again after one has failed; not after wrong usage, "
               "nor where training itself came to numbers that are not finite.",
               between(0, 10000)),
        option("shutdown_timeout", &T::shutdown_timeout,
               "Seconds from SIGTERM to SIGKILL for the others when a rank has failed.",
               between(0, 3600)),
        option("log_dir", &T::log_dir,
               "Folder for the ranks' output, one rank-N.log each. Rank 0's is shown as well, on a "
               "terminal as plain lines instead of a bar."),
        option("program", &T::program, "Start this instead of llama2zh itself."));
  }
};

// A checked LaunchConfig.
struct LaunchPlan {
  int64_t processes = 1, nnodes = 1, node_rank = 0;
  std::string master_addr = "127.0.0.1";
  int64_t master_port = 0;  // 0: a free one at each start
  int64_t threads = 1;      // OMP_NUM_THREADS, unless the environment has one
  int64_t cores = 1;        // that the processes share
  int64_t world_size() const { return processes * nnodes; }
};

// kUsage for what does not fit together: no number and no GPU, several hosts without an address or
// a rank, a launcher started more than once on a host. `cores` is shared by the processes.
LaunchPlan plan_launch(const LaunchConfig& config, const GetEnvironment& get, int64_t gpus,
                       int64_t cores);

// Devices nvidia0, nvidia1, ... in the folder (/dev), of which CUDA_VISIBLE_DEVICES shows so many;
// 0 without devices.
int64_t count_visible_gpus(const GetEnvironment& get, const std::filesystem::path& device_folder);

using Variables = std::vector<std::pair<std::string, std::string>>;
// What torchrun sets, and LLAMA2ZH_LAUNCH, for process `local_rank` of the plan at its start number
// `restart` (0: the first).
Variables rank_variables(const LaunchPlan& plan, const LaunchConfig& config,
                         const GetEnvironment& get, int64_t local_rank, int64_t restart,
                         int64_t port);

// Starts the plan's processes and watches over them until all have ended: one that fails ends the
// others, and all are started again while max_restarts allows it. `command` gives the whole command
// line of every rank at its start number `restart`. SIGINT and SIGTERM are passed on to all ranks;
// a second one, later than 0.2 s, kills them. Returns the exit code: 0, or 128 + signal where ranks
// did not end by themselves after one. Throws an Error that names rank, host, process and how it ended, after its
// last lines were printed: kUsage or Diverged (base/diverged.h) where the rank's exit code was theirs,
// which is never tried again.
// One thread; no other may wait for children or handle these signals meanwhile.
using CommandOfStart = std::function<std::vector<std::string>(int64_t restart)>;
int launch_ranks(const LaunchPlan& plan, const LaunchConfig& config, const CommandOfStart& command);

}  // namespace llama2zh
