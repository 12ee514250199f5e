#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace llama2zh {

// Which of how many processes this one is, and where they meet. A process that no launcher started
// is rank 0 of 1.
struct RankEnvironment {
  int64_t rank = 0, world_size = 1;
  int64_t local_rank = 0, local_world_size = 1;  // on this host
  std::string master_addr = "127.0.0.1";
  int64_t master_port = 29500;
  bool store_is_hosted = false;  // the launcher serves the store: rank 0 is a client too
  int64_t restart_count = 0;     // how often the launcher has started the ranks again
  std::string run_id;            // keeps the keys of runs and restarts in one store apart
  std::string launcher;          // "llama2zh launch", "torchrun", "MPI", "Slurm"; empty: none
  bool distributed() const { return world_size > 1; }
};

using GetEnvironment = std::function<std::optional<std::string>(const char* name)>;

// From what launchers set, first that names a rank and a size: RANK and WORLD_SIZE (torchrun and
// llama2zh launch), PMI_* (MPICH, Intel), OMPI_COMM_WORLD_* (Open MPI), MV2_COMM_WORLD_*, SLURM_*
// (inside an srun step; a batch script alone is one process). MASTER_ADDR and MASTER_PORT count
// under each of them; without them processes on one host meet at 127.0.0.1:29500, those of a Slurm
// step on its first host at a port made from the job's number. Where a launcher does not say which
// processes share a host, all do. An empty variable counts as unset. kUsage, naming the variable,
// for a number that is none or out of range, for RANK without WORLD_SIZE and the reverse, and where
// several hosts take part and MASTER_ADDR is not known.
RankEnvironment read_rank_environment(const GetEnvironment& get);
RankEnvironment read_rank_environment();  // of this process

// First host of a Slurm node list: "gpu[03-05,9]-ib,login" -> "gpu03-ib". kUsage if it is none.
std::string first_slurm_host(const std::string& node_list);

// Tasks on node `node` of a Slurm list: "2(x3),1" is 2, 2, 2, 1. kUsage if it is none or shorter.
int64_t slurm_tasks_on_node(const std::string& tasks_per_node, int64_t node);

}  // namespace llama2zh
