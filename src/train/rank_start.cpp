// What a rank does before it is one of several.
#include "train/rank_start.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

void use_device_of_rank(RunConfig& config, const RankEnvironment& environment) {
  if (!environment.distributed()) return;
  const std::string& device = config.model.device;
  const bool cuda = device == "cuda" || (device == "auto" && at::hasCUDA());
  if (cuda) config.model.device = cat("cuda:", environment.local_rank);
}

std::chrono::milliseconds rank_timeout(const RunConfig& config) {
  const std::chrono::duration<double> timeout(config.distributed.timeout_seconds);
  return std::chrono::duration_cast<std::chrono::milliseconds>(timeout);
}

std::unique_ptr<ProcessGroup> meet_other_ranks(const RunConfig& config,
                                               const RankEnvironment& environment,
                                               at::Device device) {
  if (!environment.distributed()) return nullptr;
  return std::make_unique<ProcessGroup>(environment, device, rank_timeout(config));
}

void tell_others_of_stop(const RunConfig& config, const RankEnvironment& environment,
                         at::Device device) {
  if (config.plan_only) return;
  if (const auto group = meet_other_ranks(config, environment, device)) {
    group->any(true, kWhetherToBegin);
  }
}

// mpirun and srun set no number of threads: each rank takes all cores then. Threads that spin for one
// another on shared cores slow a run down several times.
void warn_of_shared_cores(const RankEnvironment& environment, at::Device device) {
  if (environment.rank != 0 || environment.local_world_size < 2 || !device.is_cpu()) return;
  const int64_t cores = ::sysconf(_SC_NPROCESSORS_ONLN), ranks = environment.local_world_size;
  const int64_t threads = at::get_num_threads();
  if (threads * ranks <= cores || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  log_warning(cat(ranks, " ranks with ", threads, " threads each share ", cores,
                  " cores: set OMP_NUM_THREADS=", std::max<int64_t>(1, cores / ranks),
                  ", or OMP_WAIT_POLICY=passive"));
}

}  // namespace llama2zh
