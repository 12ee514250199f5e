#include "llama2zh/distributed/rank_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/expect_error.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

RankEnvironment read(const Variables& variables) {
  return read_rank_environment([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

std::string usage_error_of(const Variables& variables) {
  return error_text_of(ErrorKind::kUsage, [&] { read(variables); });
}

// What srun of Slurm 22.05 sets for task 5 of 6, two on each of gpu03, gpu04 and login.
const Variables kSrunTask = {{"SLURM_JOB_ID", "734501"},
                             {"SLURM_STEP_ID", "0"},
                             {"SLURM_NTASKS", "6"},
                             {"SLURM_PROCID", "5"},
                             {"SLURM_LOCALID", "1"},
                             {"SLURM_NODEID", "2"},
                             {"SLURM_STEP_NUM_TASKS", "6"},
                             {"SLURM_STEP_TASKS_PER_NODE", "2(x3)"},
                             {"SLURM_STEP_NODELIST", "gpu[03-04],login"},
                             {"SLURM_JOB_NODELIST", "gpu[03-04],login"}};

TEST(RankEnvironment, NoLauncherIsOneProcess) {
  const RankEnvironment alone = read({});
  EXPECT_EQ(alone.rank, 0);
  EXPECT_EQ(alone.world_size, 1);
  EXPECT_FALSE(alone.distributed());
  EXPECT_EQ(alone.launcher, "");
}

TEST(RankEnvironment, Torchrun) {
  const RankEnvironment rank = read({{"RANK", "3"},
                                     {"WORLD_SIZE", "4"},
                                     {"LOCAL_RANK", "1"},
                                     {"LOCAL_WORLD_SIZE", "2"},
                                     {"GROUP_RANK", "1"},
                                     {"MASTER_ADDR", "gpu03"},
                                     {"MASTER_PORT", "29777"},
                                     {"TORCHELASTIC_RESTART_COUNT", "2"},
                                     {"TORCHELASTIC_RUN_ID", "none"},
                                     {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  EXPECT_EQ(rank.launcher, "torchrun");
  EXPECT_EQ(rank.rank, 3);
  EXPECT_EQ(rank.world_size, 4);
  EXPECT_EQ(rank.local_rank, 1);
  EXPECT_EQ(rank.local_world_size, 2);
  EXPECT_EQ(rank.master_addr, "gpu03");
  EXPECT_EQ(rank.master_port, 29777);
  EXPECT_EQ(rank.restart_count, 2);
  EXPECT_EQ(rank.run_id, "none");
  EXPECT_TRUE(rank.store_is_hosted);
}

TEST(RankEnvironment, OwnLauncherServesNoStore) {
  const RankEnvironment rank = read({{"RANK", "0"},
                                     {"WORLD_SIZE", "2"},
                                     {"LLAMA2ZH_LAUNCH", "1"},
                                     {"TORCHELASTIC_USE_AGENT_STORE", "False"}});
  EXPECT_EQ(rank.launcher, "llama2zh launch");
  EXPECT_FALSE(rank.store_is_hosted);
}

TEST(RankEnvironment, RankAndSizeAloneAreOneHost) {
  const RankEnvironment rank = read({{"RANK", "1"}, {"WORLD_SIZE", "2"}});
  EXPECT_EQ(rank.local_rank, 1);
  EXPECT_EQ(rank.local_world_size, 2);
  EXPECT_EQ(rank.master_addr, "127.0.0.1");
  EXPECT_EQ(rank.master_port, 29500);
}

TEST(RankEnvironment, MpiOfThreeKinds) {
  const std::vector<std::vector<const char*>> kinds = {
      {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
       "OMPI_COMM_WORLD_LOCAL_SIZE"},
      {"MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
       "MV2_COMM_WORLD_LOCAL_SIZE"}};
  for (const auto& names : kinds) {
    Variables variables = {{names[0], "5"}, {names[1], "8"}, {names[2], "1"}, {names[3], "4"}};
    EXPECT_THAT(usage_error_of(variables), HasSubstr("MASTER_ADDR")) << names[0];
    variables["MASTER_ADDR"] = "10.0.0.1";
    const RankEnvironment rank = read(variables);
    EXPECT_EQ(rank.launcher, "MPI");
    EXPECT_EQ(rank.rank, 5);
    EXPECT_EQ(rank.world_size, 8);
    EXPECT_EQ(rank.local_rank, 1);
    EXPECT_EQ(rank.local_world_size, 4);
    EXPECT_EQ(rank.master_addr, "10.0.0.1");
  }
}

TEST(RankEnvironment, SlurmStep) {
  const RankEnvironment rank = read(kSrunTask);
  EXPECT_EQ(rank.launcher, "Slurm");
  EXPECT_EQ(rank.rank, 5);
  EXPECT_EQ(rank.world_size, 6);
  EXPECT_EQ(rank.local_rank, 1);
  EXPECT_EQ(rank.local_world_size, 2);
  EXPECT_EQ(rank.master_addr, "gpu03");
  EXPECT_EQ(rank.master_port, 29500 + 734501 % 2000);
  EXPECT_EQ(rank.run_id, "734501.0");
}

TEST(RankEnvironment, SlurmBatchScriptIsOneProcess) {
  const RankEnvironment alone = read({{"SLURM_JOB_ID", "7"},
                                      {"SLURM_NTASKS", "6"},
                                      {"SLURM_PROCID", "0"},
                                      {"SLURM_LOCALID", "0"},
                                      {"SLURM_JOB_NODELIST", "gpu[03-05]"},
                                      {"SLURM_TASKS_PER_NODE", "2(x3)"}});
  EXPECT_EQ(alone.world_size, 1);
  EXPECT_EQ(alone.launcher, "");
}

TEST(RankEnvironment, WorldSizeExportedForSrunLeavesTheRankToSlurm) {
  Variables variables = kSrunTask;
  variables["WORLD_SIZE"] = "6";
  EXPECT_EQ(read(variables).rank, 5);
}

// srun --mpi=pmi2: PMI_RANK and PMI_SIZE, but no local numbers.
TEST(RankEnvironment, PmiUnderSrunIsASlurmStep) {
  Variables variables = kSrunTask;
  variables["PMI_RANK"] = "5";
  variables["PMI_SIZE"] = "6";
  const RankEnvironment rank = read(variables);
  EXPECT_EQ(rank.launcher, "Slurm");
  EXPECT_EQ(rank.rank, 5);
  EXPECT_EQ(rank.master_addr, "gpu03");
  EXPECT_EQ(rank.local_rank, 1);
  EXPECT_EQ(rank.local_world_size, 2);
}

// mpirun in a Slurm job starts its daemons by srun, one a host: Slurm's numbers are theirs.
TEST(RankEnvironment, MpirunInASlurmJobKeepsItsOwnNumbers) {
  const RankEnvironment rank = read({{"OMPI_COMM_WORLD_RANK", "2"},
                                     {"OMPI_COMM_WORLD_SIZE", "4"},
                                     {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                                     {"SLURM_PROCID", "1"},
                                     {"SLURM_STEP_NUM_TASKS", "2"},
                                     {"MASTER_ADDR", "a"}});
  EXPECT_EQ(rank.rank, 2);
  EXPECT_EQ(rank.world_size, 4);
  EXPECT_EQ(rank.local_world_size, 2);
}

TEST(RankEnvironment, BadNumbersNameTheVariable) {
  EXPECT_THAT(usage_error_of({{"RANK", "one"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK: 'one'"));
  EXPECT_THAT(usage_error_of({{"RANK", "1x"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK: '1x'"));
  EXPECT_THAT(usage_error_of({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), HasSubstr("2 is not below"));
  EXPECT_THAT(usage_error_of({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK: '-1'"));
  EXPECT_THAT(usage_error_of({{"RANK", "0"}, {"WORLD_SIZE", "0"}}), HasSubstr("WORLD_SIZE: '0'"));
  EXPECT_THAT(usage_error_of({{"RANK", "0"}}), HasSubstr("WORLD_SIZE: not set"));
  EXPECT_THAT(usage_error_of({{"WORLD_SIZE", "2"}}), HasSubstr("RANK: not set"));
  EXPECT_THAT(usage_error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "70000"}}),
              HasSubstr("MASTER_PORT: '70000'"));
  EXPECT_THAT(usage_error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "3"}}),
              HasSubstr("LOCAL_WORLD_SIZE: '3'"));
  EXPECT_THAT(usage_error_of({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}}),
              HasSubstr("LOCAL_RANK: 2 is not below"));
}

TEST(RankEnvironment, EmptyVariablesCountAsUnset) {
  EXPECT_EQ(read({{"RANK", ""}, {"WORLD_SIZE", ""}}).world_size, 1);
  EXPECT_EQ(read({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", ""}}).master_addr,
            "127.0.0.1");
}

TEST(RankEnvironment, SlurmHostLists) {
  EXPECT_EQ(first_slurm_host("gpu[03-05,9],login"), "gpu03");
  EXPECT_EQ(first_slurm_host("login"), "login");
  EXPECT_EQ(first_slurm_host("login,gpu[1-2]"), "login");
  EXPECT_EQ(first_slurm_host("gpu[7,9]-ib"), "gpu7-ib");
  EXPECT_EQ(first_slurm_host("rack[2-3]node[10-12]"), "rack2node10");
  EXPECT_EQ(first_slurm_host("a-b-01"), "a-b-01");
  for (const char* bad : {"", ",a", "gpu[3"}) {
    const std::string text = error_text_of(ErrorKind::kUsage, [&] { first_slurm_host(bad); });
    EXPECT_THAT(text, HasSubstr("MASTER_ADDR")) << bad;
  }
}

TEST(RankEnvironment, SlurmTasksPerNode) {
  EXPECT_EQ(slurm_tasks_on_node("4", 0), 4);
  EXPECT_EQ(slurm_tasks_on_node("2(x3),1", 2), 2);
  EXPECT_EQ(slurm_tasks_on_node("2(x3),1", 3), 1);
  EXPECT_EQ(slurm_tasks_on_node("1,4(x2)", 1), 4);
  for (const char* bad : {"", "2(x3),1,", "x", "2(3)", "0", "2(x"}) {
    error_text_of(ErrorKind::kUsage, [&] { slurm_tasks_on_node(bad, 4); });
  }
}

}  // namespace
}  // namespace llama2zh
