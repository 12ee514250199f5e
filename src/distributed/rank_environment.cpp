// The variables of each launcher, in accelerate's order; torchrun's names come first, since a
// script under mpirun or srun may set them itself to overrule. Slurm's are those of a step: in a
// batch script SLURM_PROCID and SLURM_NTASKS are set too, but there is one process.
#include "llama2zh/distributed/rank_environment.h"

#include <array>
#include <charconv>
#include <cstdlib>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

struct LauncherNames {
  const char* launcher;
  const char *rank, *size, *local_rank, *local_size;
};

constexpr LauncherNames kTorchrun = {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK",
                                     "LOCAL_WORLD_SIZE"};
constexpr LauncherNames kSlurm = {"Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
                                  "SLURM_STEP_TASKS_PER_NODE"};
constexpr std::array kLaunchers = {
    kTorchrun,
    LauncherNames{"MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    LauncherNames{"MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                  "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    LauncherNames{"MPI", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
                  "MV2_COMM_WORLD_LOCAL_SIZE"},
    kSlurm,
};
constexpr int64_t kMostRanks = 65536;

std::string text_of(const GetEnvironment& get, const char* name) { return get(name).value_or(""); }

std::optional<int64_t> number_of(const GetEnvironment& get, const char* name, int64_t low,
                                 int64_t high) {
  const std::string text = text_of(get, name);
  if (text.empty()) return std::nullopt;
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, value);
  if (code != std::errc() || rest != end || value < low || value > high) {
    fail_usage(
        name,
        cat("'", text, "' in the environment: expected a whole number from ", low, " to ", high),
        "unset it, or start the processes with llama2zh launch");
  }
  return value;
}

// 0 if the text is no whole number above 0.
int64_t positive_number(std::string_view text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, value);
  return code == std::errc() && rest == end && value > 0 ? value : 0;
}

// srun with an MPI plugin (--mpi=pmi2) sets PMI_RANK and PMI_SIZE only. Its own variables say more.
bool is_slurm_step(const GetEnvironment& get, const LauncherNames& names, int64_t size) {
  return names.launcher == std::string("MPI") && text_of(get, names.local_rank).empty() &&
         number_of(get, kSlurm.size, 1, kMostRanks).value_or(0) == size;
}

// Which processes share a host.
void read_local_ranks(const GetEnvironment& get, const LauncherNames& names,
                      RankEnvironment& result) {
  const auto local = number_of(get, names.local_rank, 0, kMostRanks);
  if (result.launcher == kSlurm.launcher) {
    const std::string tasks = text_of(get, names.local_size);
    const int64_t node = number_of(get, "SLURM_NODEID", 0, kMostRanks).value_or(0);
    result.local_world_size = tasks.empty() ? result.world_size : slurm_tasks_on_node(tasks, node);
  } else {
    result.local_world_size =
        number_of(get, names.local_size, 1, result.world_size).value_or(result.world_size);
  }
  result.local_rank = local.value_or(result.rank % result.local_world_size);
  if (result.local_rank >= result.local_world_size) {
    fail_usage(names.local_rank,
               cat(result.local_rank, " is not below the ", result.local_world_size,
                   " processes of this host"),
               "start the processes with llama2zh launch");
  }
}

void read_meeting_place(const GetEnvironment& get, RankEnvironment& result) {
  const bool slurm = result.launcher == "Slurm";
  if (slurm) {  // two jobs on one host must not meet
    const auto job = number_of(get, "SLURM_JOB_ID", 0, INT64_MAX);
    result.master_port += job.value_or(0) % 2000;
  }
  result.master_port = number_of(get, "MASTER_PORT", 1, 65535).value_or(result.master_port);
  const std::string address = text_of(get, "MASTER_ADDR");
  if (!address.empty()) {
    result.master_addr = address;
    return;
  }
  if (result.local_world_size >= result.world_size) return;  // one host: loopback will do
  const std::string nodes = slurm ? text_of(get, "SLURM_STEP_NODELIST") : "";
  if (nodes.empty()) {
    fail_usage(
        "MASTER_ADDR", "not set, and the processes are on several hosts",
        "set it to the address of rank 0's host on each of them (mpirun -x MASTER_ADDR=...)");
  }
  result.master_addr = first_slurm_host(nodes);
}

void read_run(const GetEnvironment& get, RankEnvironment& result) {
  if (result.launcher == kTorchrun.launcher) {
    if (get("LLAMA2ZH_LAUNCH")) result.launcher = "llama2zh launch";
    result.restart_count = number_of(get, "TORCHELASTIC_RESTART_COUNT", 0, INT64_MAX).value_or(0);
    result.run_id = text_of(get, "TORCHELASTIC_RUN_ID");
    result.store_is_hosted = text_of(get, "TORCHELASTIC_USE_AGENT_STORE") == "True";
  } else if (result.launcher == kSlurm.launcher) {
    result.restart_count = number_of(get, "SLURM_RESTART_COUNT", 0, INT64_MAX).value_or(0);
    result.run_id = cat(text_of(get, "SLURM_JOB_ID"), ".", text_of(get, "SLURM_STEP_ID"));
  }
}

}  // namespace

std::string first_slurm_host(const std::string& node_list) {
  std::string host;
  size_t i = 0;
  while (i < node_list.size() && node_list[i] != ',') {
    if (node_list[i] != '[') {
      host += node_list[i++];
      continue;
    }
    const size_t close = node_list.find(']', i);
    const size_t end = node_list.find_first_of("-,]", i);  // of the first number
    if (close == std::string::npos) break;
    host.append(node_list, i + 1, end - i - 1);
    i = close + 1;
  }
  if (host.empty() || (i < node_list.size() && node_list[i] == '[')) {
    fail_usage("SLURM_STEP_NODELIST", cat("'", node_list, "' is no list of hosts"),
               "set MASTER_ADDR to the address of rank 0's host");
  }
  return host;
}

int64_t slurm_tasks_on_node(const std::string& tasks_per_node, int64_t node) {
  for (const std::string& item : split(tasks_per_node, ',')) {  // "2" or "2(x3)"
    const size_t bracket = item.find('(');
    const int64_t tasks = positive_number(item.substr(0, bracket));
    int64_t nodes = 1;
    if (bracket != std::string::npos) {
      const std::string repeat = item.substr(bracket);
      const bool whole = repeat.starts_with("(x") && repeat.ends_with(")");
      nodes = whole ? positive_number(repeat.substr(2, repeat.size() - 3)) : 0;
    }
    if (tasks == 0 || nodes == 0) break;
    if (node < nodes) return tasks;
    node -= nodes;
  }
  fail_usage("SLURM_STEP_TASKS_PER_NODE",
             cat("'", tasks_per_node, "' does not say how many tasks this node has"),
             "start the processes with llama2zh launch");
}

RankEnvironment read_rank_environment(const GetEnvironment& get) {
  RankEnvironment result;
  for (const LauncherNames& names : kLaunchers) {
    const auto rank = number_of(get, names.rank, 0, kMostRanks - 1);
    const auto size = number_of(get, names.size, 1, kMostRanks);
    if (rank && !size && names.rank == kTorchrun.rank) {
      fail_usage("WORLD_SIZE", "not set, though RANK is", "set both or none");
    }
    // A batch script's own SLURM_PROCID, or a WORLD_SIZE exported for the tasks of srun.
    if (!rank || !size) continue;
    if (*rank >= *size) {
      fail_usage(names.rank, cat(*rank, " is not below ", names.size, ", ", *size));
    }
    result.rank = *rank;
    result.world_size = *size;
    const LauncherNames& teller = is_slurm_step(get, names, *size) ? kSlurm : names;
    result.launcher = teller.launcher;
    read_local_ranks(get, teller, result);
    break;
  }
  if (result.launcher.empty()) {
    if (number_of(get, kTorchrun.size, 1, kMostRanks).value_or(1) > 1) {
      fail_usage("RANK", "not set, though WORLD_SIZE is", "set both or none");
    }
    return result;
  }
  read_run(get, result);
  if (result.distributed()) read_meeting_place(get, result);
  return result;
}

RankEnvironment read_rank_environment() {
  return read_rank_environment([](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    return value;
  });
}

}  // namespace llama2zh
