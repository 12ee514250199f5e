// at::parallel_for is a template: compiled here without OpenMP it would run on one thread, silently.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <thread>

namespace llama2zh {
namespace {

TEST(Threads, ParallelForOfThisCodeUsesThePool) {
  if (at::get_num_threads() < 2) GTEST_SKIP() << "libtorch's pool has one thread";
  std::mutex mutex;
  std::set<std::thread::id> seen;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    const std::lock_guard lock(mutex);
    seen.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(static_cast<int>(seen.size()), at::get_num_threads());
}

}  // namespace
}  // namespace llama2zh
