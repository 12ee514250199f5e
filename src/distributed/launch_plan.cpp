// How many processes, on how many hosts, meeting where; and what each finds in its environment.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/distributed/launch.h"

namespace llama2zh {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostProcesses = 1024;

int64_t process_count(const std::string& text, int64_t gpus) {
  if (text == "auto") {
    if (gpus > 0) return gpus;
    fail_usage("--nproc-per-node", "auto is one process a GPU, and no GPU is visible here",
               "pass the number of processes");
  }
  int64_t count = 0;
  const char* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, count);
  if (code != std::errc() || rest != end || count < 1 || count > kMostProcesses) {
    fail_usage("--nproc-per-node",
               cat("'", text, "': expected auto or a number from 1 to ", kMostProcesses));
  }
  return count;
}

// What srun or mpirun say about the launchers that they started, one a host: nothing if there is one.
RankEnvironment read_launchers(const LaunchConfig& config, const GetEnvironment& get) {
  RankEnvironment outer =
      read_rank_environment([&](const char* name) -> std::optional<std::string> {
        if (name == std::string("MASTER_ADDR") && !config.master_addr.empty())
          return config.master_addr;
        return get(name);
      });
  if (outer.launcher == "torchrun" || outer.launcher == "llama2zh launch") {
    if (!outer.distributed()) return {};
    fail_usage("launch",
               cat("this is already rank ", outer.rank, " of ", outer.world_size, " that ",
                   outer.launcher, " started"),
               "run the verb itself");
  }
  if (outer.distributed() && outer.local_world_size > 1) {
    fail_usage("launch",
               cat(outer.launcher, " started it ", outer.local_world_size, " times on this host"),
               "start one launcher a host, or the verb itself without launch");
  }
  return outer;
}

void check_nodes(const LaunchPlan& plan, const LaunchConfig& config) {
  if (plan.node_rank >= plan.nnodes) {
    fail_usage("--node-rank", cat(plan.node_rank, " is not below --nnodes, ", plan.nnodes));
  }
  if (plan.nnodes > 1 && plan.master_port + config.max_restarts > 65535) {
    fail_usage("--master-port",
               cat(plan.master_port, " leaves no ports for ", config.max_restarts,
                   " restarts: each takes the next one"),
               "choose a lower one");
  }
}

}  // namespace

LaunchPlan plan_launch(const LaunchConfig& config, const GetEnvironment& get, int64_t gpus,
                       int64_t cores) {
  const RankEnvironment outer = read_launchers(config, get);
  LaunchPlan plan;
  plan.processes = process_count(config.nproc_per_node, gpus);
  plan.threads = std::max<int64_t>(1, cores / plan.processes);
  plan.cores = cores;
  plan.nnodes = config.nnodes.value_or(outer.world_size);
  if (plan.nnodes > 1 && !config.node_rank && outer.world_size != plan.nnodes) {
    fail_usage("--node-rank", cat("not given, and there are ", plan.nnodes, " hosts"),
               "pass each host's own, from 0; host 0 is at --master-addr");
  }
  plan.node_rank = config.node_rank.value_or(outer.world_size == plan.nnodes ? outer.rank : 0);
  const bool known = outer.world_size == plan.nnodes && outer.distributed();
  plan.master_addr = known ? outer.master_addr : get("MASTER_ADDR").value_or("");
  if (!config.master_addr.empty()) plan.master_addr = config.master_addr;
  if (plan.master_addr.empty()) {
    if (plan.nnodes > 1) {
      fail_usage("--master-addr", cat("not given, and there are ", plan.nnodes, " hosts"),
                 "pass the address of host 0, the same on each host");
    }
    plan.master_addr = "127.0.0.1";
  }
  plan.master_port = config.master_port;
  if (plan.nnodes > 1 && plan.master_port == 0) plan.master_port = outer.master_port;
  check_nodes(plan, config);
  return plan;
}

int64_t count_visible_gpus(const GetEnvironment& get, const fs::path& device_folder) {
  int64_t devices = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(device_folder, error)) {
    const std::string name = entry.path().filename().string();
    const std::string number = name.starts_with("nvidia") ? name.substr(6) : "";
    const bool digits =
        std::all_of(number.begin(), number.end(), [](unsigned char c) { return std::isdigit(c); });
    if (!number.empty() && digits) ++devices;
  }
  const auto visible = get("CUDA_VISIBLE_DEVICES");
  if (!visible || devices == 0) return devices;
  int64_t shown = 0;
  for (const std::string& item : split(*visible, ',')) {
    const std::string_view name = trim(item);
    if (name.empty() || name.starts_with("-")) break;  // as CUDA does: what follows is hidden
    ++shown;
  }
  return shown;
}

Variables rank_variables(const LaunchPlan& plan, const LaunchConfig& config,
                         const GetEnvironment& get, int64_t local_rank, int64_t restart,
                         int64_t port) {
  const auto text = [](int64_t number) { return std::to_string(number); };
  const std::string rank = text(plan.node_rank * plan.processes + local_rank);
  Variables variables = {{"RANK", rank},
                         {"LOCAL_RANK", text(local_rank)},
                         {"WORLD_SIZE", text(plan.world_size())},
                         {"LOCAL_WORLD_SIZE", text(plan.processes)},
                         {"GROUP_RANK", text(plan.node_rank)},
                         {"GROUP_WORLD_SIZE", text(plan.nnodes)},
                         {"ROLE_NAME", "default"},
                         {"ROLE_RANK", rank},
                         {"ROLE_WORLD_SIZE", text(plan.world_size())},
                         {"MASTER_ADDR", plan.master_addr},
                         {"MASTER_PORT", text(port)},
                         {"TORCHELASTIC_RESTART_COUNT", text(restart)},
                         {"TORCHELASTIC_MAX_RESTARTS", text(config.max_restarts)},
                         {"TORCHELASTIC_RUN_ID", cat("launch-", port)},
                         {"TORCHELASTIC_USE_AGENT_STORE", "False"},
                         {"LLAMA2ZH_LAUNCH", "1"}};
  const std::string threads = get("OMP_NUM_THREADS").value_or("");
  if (threads.empty()) variables.emplace_back("OMP_NUM_THREADS", text(plan.threads));
  const bool has_policy = get("OMP_WAIT_POLICY") || get("GOMP_SPINCOUNT");
  if (!has_policy && std::atoll(threads.c_str()) * plan.processes > plan.cores)
    variables.emplace_back("OMP_WAIT_POLICY",
                           "passive");  // who waits must not spin on a shared core
  if (!get("TORCH_NCCL_ASYNC_ERROR_HANDLING"))
    variables.emplace_back("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
  return variables;
}

}  // namespace llama2zh
