// Real processes that meet on loopback; nothing of torch runs in the test's own process.
#include "llama2zh/distributed/process_group.h"

#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <thread>

#include "base/temp_folder.h"
#include "distributed/ranks.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr auto kTimeout = std::chrono::seconds(20);
const std::vector<int> kAllGood3 = {0, 0, 0};

TEST(ProcessGroup, CollectivesOfThreeRanks) {
  ForkedRanks ranks(3, [](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kTimeout);
    const auto rank = static_cast<double>(group.rank());
    if (group.sum({1, rank}, "sum") != std::vector<double>{3, 3}) return 1;
    if (!group.any(group.rank() == 1, "any") || group.any(false, "any")) return 2;
    at::Tensor own = at::full({2}, rank);
    const at::Tensor all = group.all_gather(own, "all_gather");
    if (all.sizes() != at::IntArrayRef{3, 2} || all[2][1].item<double>() != 2) return 3;
    const at::Tensor gathered = group.gather(own, "gather");
    if (gathered.defined() != group.is_first()) return 4;
    if (gathered.defined() && gathered[1][0].item<double>() != 1) return 5;
    group.broadcast(own, 2, "broadcast");
    if (own[0].item<double>() != 2) return 6;
    group.barrier("the end");
    return 0;
  });
  EXPECT_EQ(ranks.codes(), kAllGood3);
}

// The remote ends of listening sockets of this process, from /proc/net/tcp: all on 127.0.0.1?
bool listens_on_loopback_only(int64_t port) {
  std::ifstream table("/proc/net/tcp");
  std::string line;
  bool found = false;
  std::getline(table, line);
  char wanted[16];
  std::snprintf(wanted, sizeof wanted, ":%04X", static_cast<unsigned>(port));
  while (std::getline(table, line)) {
    const std::string local = split(std::string(trim(line)), ' ')[1];
    if (!local.ends_with(wanted) || line.find(" 0A ") == std::string::npos) continue;
    found = true;
    if (!local.starts_with("0100007F")) return false;
  }
  return found;
}

TEST(ProcessGroup, StoreListensOnTheNamedAddressAlone) {
  ForkedRanks ranks(2, [](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kTimeout);
    const int code = listens_on_loopback_only(environment.master_port) ? 0 : 1;
    group.barrier("looked");
    return code;
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0}));
}

template <typename Act>
int expect_error(const std::vector<std::string>& parts, Act&& act) {
  try {
    act();
  } catch (const Error& error) {
    for (const std::string& part : parts) {
      if (std::string(error.what()).find(part) != std::string::npos) continue;
      std::fprintf(stderr, "'%s' lacks '%s'\n", error.what(), part.c_str());
      return 2;
    }
    return 0;
  }
  return 3;
}

TEST(ProcessGroup, RankThatNeverComesIsNamed) {
  ForkedRanks ranks(3, [](const RankEnvironment& environment) {
    if (environment.rank == 1) return 0;
    return expect_error({"waited 1 s for rank 1 of 3 at 127.0.0.1"}, [&] {
      ProcessGroup group(environment, at::kCPU, std::chrono::seconds(1));
    });
  });
  EXPECT_EQ(ranks.codes(), kAllGood3);
}

TEST(ProcessGroup, StoreThatNeverComesIsNamed) {
  ForkedRanks ranks(2, [](const RankEnvironment& environment) {
    if (environment.rank == 0) return 0;
    return expect_error({"waited 1 s for rank 0's store at 127.0.0.1", "MASTER_PORT"}, [&] {
      ProcessGroup group(environment, at::kCPU, std::chrono::seconds(1));
    });
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0}));
}

// `victim` is killed while the others wait for it.
void expect_lost_rank_is_named(int64_t victim) {
  ForkedRanks ranks(3, [&](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kTimeout);
    group.barrier("start");
    if (group.rank() == victim) ::raise(SIGKILL);
    return expect_error({"the gradients of step 5 failed", cat("rank ", victim, " is lost")},
                        [&] { group.sum({1}, "the gradients of step 5"); });
  });
  std::vector<int> expected(3, 0);
  expected[static_cast<size_t>(victim)] = -SIGKILL;
  EXPECT_EQ(ranks.codes(), expected);
}

TEST(ProcessGroup, KilledRankIsNamed) { expect_lost_rank_is_named(1); }
TEST(ProcessGroup, KilledRankThatServesTheStoreIsNamed) { expect_lost_rank_is_named(0); }

TEST(ProcessGroup, RankThatHangsIsNamedAfterTheTimeout) {
  ForkedRanks ranks(2, [&](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, std::chrono::seconds(2));
    group.barrier("start");
    if (group.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::seconds(9));
      return 0;
    }
    return expect_error({"rank 1 is lost", "silent for the timeout"},
                        [&] { group.sum({1}, "a sum"); });
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0}));
}

// What rank 0 writes to its standard error while rank 1 comes late to `act`.
std::string words_of_a_rank_that_waits(const std::function<void(ProcessGroup&)>& act,
                                       std::chrono::milliseconds late) {
  const TempFolder folder;
  ForkedRanks ranks(2, [&](const RankEnvironment& environment) {
    ProcessGroup group(environment, at::kCPU, kTimeout, std::chrono::milliseconds(200));
    if (group.is_first() && std::freopen((folder / "err").c_str(), "w", stderr) == nullptr)
      return 1;
    group.barrier("start");
    if (group.rank() == 1) std::this_thread::sleep_for(late);
    act(group);
    group.barrier("the end");
    return 0;
  });
  EXPECT_EQ(ranks.codes(), (std::vector<int>{0, 0}));
  return read_file(folder / "err");
}

TEST(ProcessGroup, ARankThatWaitsSaysForWhatOnce) {
  const auto sum = [](ProcessGroup& group) { group.sum({1}, "the token counts of step 3"); };
  const std::string words = words_of_a_rank_that_waits(sum, std::chrono::milliseconds(1500));
  const std::string notice = "for the others: the token counts of step 3";
  EXPECT_NE(words.find("rank 0 has waited "), std::string::npos) << words;
  ASSERT_NE(words.find(notice), std::string::npos) << words;
  EXPECT_EQ(words.find(notice, words.find(notice) + 1), std::string::npos) << words;
  EXPECT_EQ(words_of_a_rank_that_waits(sum, std::chrono::milliseconds(0)), "");
}

// A step's backward pass is spoken of when it takes far longer than those before.
TEST(ProcessGroup, WaitingWithinAComputationIsToldByItsLength) {
  const auto step = [](ProcessGroup& group) {
    group.guarded("the gradients of step 5", [&] { group.sum({1}, "a bucket"); });
  };
  EXPECT_NE(words_of_a_rank_that_waits(step, std::chrono::milliseconds(1500)).find("a bucket"),
            std::string::npos);
  const auto compute = [](ProcessGroup& group) {
    for (const int milliseconds : {400, 600, 3000}) {
      group.guarded(cat("pass of ", milliseconds),
                    [&] { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); });
    }
  };
  const std::string words = words_of_a_rank_that_waits(compute, std::chrono::milliseconds(0));
  EXPECT_NE(words.find("has been at pass of 400 for "), std::string::npos) << words;
  EXPECT_EQ(words.find("pass of 600"), std::string::npos) << words;
  EXPECT_NE(words.find("has been at pass of 3000 for "), std::string::npos) << words;
}

}  // namespace
}  // namespace llama2zh
