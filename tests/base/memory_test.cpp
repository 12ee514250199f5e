#include "llama2zh/base/memory.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <numeric>
#include <vector>

#include "base/temp_folder.h"
#include "llama2zh/base/file.h"

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

TEST(ReleaseFilePages, GivesBackAFileAndNothingElse) {
  const TempFolder folder;
  const size_t size = 64 * kMebibyte;
  write_file_atomic(folder / "file", std::string(size, 'x'));
  const auto file = MappedFile::open(folder / "file");
  const auto sum = [&] {
    return std::accumulate(file->bytes().begin(), file->bytes().end(), uint64_t{0});
  };
  ASSERT_EQ(sum(), size * 'x');
  const uint64_t mapped = process_memory().file;
  release_file_pages(file->data() + 1, size - 2);
  EXPECT_LT(process_memory().file, mapped - size + kMebibyte);
  EXPECT_EQ(sum(), size * 'x');  // read again
  std::vector<char> own(size, 'y');
  release_file_pages(own.data(), own.size());
  EXPECT_EQ(std::accumulate(own.begin(), own.end(), uint64_t{0}), size * 'y');
}

}  // namespace
}  // namespace llama2zh
