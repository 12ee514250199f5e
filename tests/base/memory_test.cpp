#include "llama2zh/base/memory.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace llama2zh {
namespace {

constexpr size_t kMebibyte = size_t{1} << 20;

TEST(ProcessMemory, PeakFollowsAnAllocationAndCanBeReset) {
  const ProcessMemory before = process_memory();
  ASSERT_GT(before.resident, kMebibyte);
  ASSERT_GE(before.peak, before.resident);
  { const std::vector<char> big(200 * kMebibyte, 'x'); }
  const ProcessMemory after = process_memory();
  EXPECT_GE(after.peak, before.resident + 190 * kMebibyte);
  EXPECT_LT(after.resident, before.resident + 50 * kMebibyte);
  if (!reset_peak_memory()) GTEST_SKIP() << "this kernel keeps the peak";
  EXPECT_LT(process_memory().peak, before.resident + 50 * kMebibyte);
}

}  // namespace
}  // namespace llama2zh
