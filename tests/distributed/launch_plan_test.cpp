#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/distributed/launch.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using Settings = std::map<std::string, std::string>;

GetEnvironment from(const Settings& settings) {
  return [settings](const char* name) -> std::optional<std::string> {
    const auto found = settings.find(name);
    if (found == settings.end()) return std::nullopt;
    return found->second;
  };
}

LaunchConfig config_of(const std::string& processes) {
  LaunchConfig config;
  config.nproc_per_node = processes;
  return config;
}

std::string plan_error(const LaunchConfig& config, const Settings& settings = {}) {
  return error_text_of(ErrorKind::kUsage, [&] { plan_launch(config, from(settings), 0, 8); });
}

TEST(LaunchPlan, OneHostMeetsOnLoopback) {
  const LaunchPlan plan = plan_launch(config_of("3"), from({}), 0, 8);
  EXPECT_EQ(plan.processes, 3);
  EXPECT_EQ(plan.world_size(), 3);
  EXPECT_EQ(plan.master_addr, "127.0.0.1");
  EXPECT_EQ(plan.master_port, 0);
  EXPECT_EQ(plan.threads, 2);
  EXPECT_EQ(plan_launch(config_of("16"), from({}), 0, 8).threads, 1);
}

TEST(LaunchPlan, AutoIsOneProcessAGpu) {
  EXPECT_EQ(plan_launch(config_of("auto"), from({}), 4, 8).processes, 4);
  EXPECT_THAT(plan_error(config_of("auto")), HasSubstr("no GPU is visible"));
  for (const char* bad : {"0", "-1", "two", "", "2x", "5000"})
    EXPECT_THAT(plan_error(config_of(bad)), HasSubstr("--nproc-per-node")) << bad;
}

TEST(LaunchPlan, SeveralHostsNeedRankAndAddress) {
  LaunchConfig config = config_of("2");
  config.nnodes = 2;
  EXPECT_THAT(plan_error(config), HasSubstr("--node-rank: not given"));
  config.node_rank = 1;
  EXPECT_THAT(plan_error(config), HasSubstr("--master-addr: not given"));
  config.master_addr = "10.0.0.1";
  const LaunchPlan plan = plan_launch(config, from({}), 0, 8);
  EXPECT_EQ(plan.world_size(), 4);
  EXPECT_EQ(plan.master_port, 29500);
  config.node_rank = 2;
  EXPECT_THAT(plan_error(config), HasSubstr("2 is not below --nnodes"));
  config.node_rank = 0;
  config.master_port = 65535;
  config.max_restarts = 1;
  EXPECT_THAT(plan_error(config), HasSubstr("--master-port"));
}

TEST(LaunchPlan, HostsFromSrunWithOneLauncherAHost) {
  Settings settings = {{"SLURM_JOB_ID", "4"},
                       {"SLURM_PROCID", "1"},
                       {"SLURM_LOCALID", "0"},
                       {"SLURM_NODEID", "1"},
                       {"SLURM_STEP_NUM_TASKS", "2"},
                       {"SLURM_STEP_TASKS_PER_NODE", "1(x2)"},
                       {"SLURM_STEP_NODELIST", "gpu[7-8]"}};
  const LaunchPlan plan = plan_launch(config_of("8"), from(settings), 8, 8);
  EXPECT_EQ(plan.nnodes, 2);
  EXPECT_EQ(plan.node_rank, 1);
  EXPECT_EQ(plan.master_addr, "gpu7");
  EXPECT_EQ(plan.master_port, 29504);
  settings["SLURM_STEP_TASKS_PER_NODE"] = "2(x2)";
  EXPECT_THAT(plan_error(config_of("8"), settings), HasSubstr("Slurm started it 2 times"));
}

TEST(LaunchPlan, HostsFromMpirunWithTheAddressGiven) {
  const Settings settings = {{"OMPI_COMM_WORLD_RANK", "1"},
                             {"OMPI_COMM_WORLD_SIZE", "2"},
                             {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                             {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}};
  LaunchConfig config = config_of("2");
  EXPECT_THAT(plan_error(config, settings), HasSubstr("MASTER_ADDR"));
  config.master_addr = "10.0.0.1";
  const LaunchPlan plan = plan_launch(config, from(settings), 0, 8);
  EXPECT_EQ(plan.nnodes, 2);
  EXPECT_EQ(plan.node_rank, 1);
  EXPECT_EQ(plan.master_addr, "10.0.0.1");
}

TEST(LaunchPlan, ARankDoesNotLaunch) {
  EXPECT_THAT(plan_error(config_of("2"), {{"RANK", "0"}, {"WORLD_SIZE", "2"}}),
              HasSubstr("already rank 0 of 2"));
}

TEST(LaunchPlan, VariablesAreTorchruns) {
  LaunchPlan plan;
  plan.processes = 2;
  plan.nnodes = 3;
  plan.node_rank = 1;
  plan.master_addr = "10.0.0.1";
  plan.threads = 4;
  LaunchConfig config;
  config.max_restarts = 5;
  const Variables list = rank_variables(plan, config, from({}), 1, 2, 29502);
  const Settings set(list.begin(), list.end());
  const RankEnvironment rank = read_rank_environment(from(set));
  EXPECT_EQ(rank.launcher, "llama2zh launch");
  EXPECT_EQ(rank.rank, 3);
  EXPECT_EQ(rank.world_size, 6);
  EXPECT_EQ(rank.local_rank, 1);
  EXPECT_EQ(rank.local_world_size, 2);
  EXPECT_EQ(rank.master_addr, "10.0.0.1");
  EXPECT_EQ(rank.master_port, 29502);
  EXPECT_EQ(rank.restart_count, 2);
  EXPECT_FALSE(rank.store_is_hosted);
  EXPECT_EQ(set.at("GROUP_RANK"), "1");
  EXPECT_EQ(set.at("TORCHELASTIC_MAX_RESTARTS"), "5");
  EXPECT_EQ(set.at("OMP_NUM_THREADS"), "4");
}

TEST(LaunchPlan, ThreadsOfTheUserStay) {
  const Variables list =
      rank_variables(LaunchPlan(), LaunchConfig(), from({{"OMP_NUM_THREADS", "3"}}), 0, 0, 1);
  EXPECT_EQ(Settings(list.begin(), list.end()).count("OMP_NUM_THREADS"), 0U);
}

TEST(LaunchPlan, ThreadsThatShareCoresDoNotSpin) {
  LaunchPlan plan;
  plan.processes = 2;
  plan.cores = 4;
  const auto policy = [&](const Settings& environment) {
    const Variables list = rank_variables(plan, LaunchConfig(), from(environment), 0, 0, 1);
    const Settings set(list.begin(), list.end());
    return set.count("OMP_WAIT_POLICY") == 0 ? "" : set.at("OMP_WAIT_POLICY");
  };
  EXPECT_EQ(policy({}), "");
  EXPECT_EQ(policy({{"OMP_NUM_THREADS", "2"}}), "");
  EXPECT_EQ(policy({{"OMP_NUM_THREADS", "3"}}), "passive");
  EXPECT_EQ(policy({{"OMP_NUM_THREADS", "3"}, {"OMP_WAIT_POLICY", "active"}}), "");
  EXPECT_EQ(policy({{"OMP_NUM_THREADS", "3"}, {"GOMP_SPINCOUNT", "9"}}), "");
}

TEST(LaunchPlan, VisibleGpus) {
  const TempFolder devices;
  EXPECT_EQ(count_visible_gpus(from({}), devices.path()), 0);
  EXPECT_EQ(count_visible_gpus(from({{"CUDA_VISIBLE_DEVICES", "2,3"}}), devices.path()), 0);
  for (const char* name : {"nvidia0", "nvidia1", "nvidia11", "nvidiactl", "nvidia-uvm", "null"})
    std::ofstream(devices / name) << "";
  EXPECT_EQ(count_visible_gpus(from({}), devices.path()), 3);
  const std::vector<std::pair<const char*, int64_t>> shown = {
      {"1,11", 2}, {"GPU-8932f937", 1}, {"", 0}, {"-1", 0}, {"0,-1,1", 1}, {" 0, 1 ", 2}};
  for (const auto& [value, count] : shown) {
    EXPECT_EQ(count_visible_gpus(from({{"CUDA_VISIBLE_DEVICES", value}}), devices.path()), count)
        << value;
  }
  EXPECT_EQ(count_visible_gpus(from({}), devices / "missing"), 0);
}

}  // namespace
}  // namespace llama2zh
