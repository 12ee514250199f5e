// Parts of moments in files, put together by range, and the waiting for those of other ranks.
#include "llama2zh/train/moment_files.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/formats/safetensors.h"
#include "train/checkpoint_files.h"
#include "train/shard_meeting.h"

namespace llama2zh {
namespace {

constexpr std::chrono::milliseconds kShort{200};

HeldMoment part(int64_t begin, int64_t count, int64_t whole) {
  return {"exp_avg.w", at::arange(begin, begin + count).to(at::kFloat), begin, whole};
}

class MomentFile : public ::testing::Test {
 protected:
  MomentFile() { write_safetensors(folder_ / kStateTensorsFile, {{"random.cpu", at::zeros({1})}}); }
  std::string error_of(const HeldMoment& wanted) {
    return error_text_of(ErrorKind::kFormat, [&] { MomentFiles(folder_.path()).read(wanted); });
  }
  TempFolder folder_;
};

TEST_F(MomentFile, RangesAreReadAcrossParts) {
  write_moments(folder_.path(), {0, 3, {part(0, 256, 1000)}});
  write_moments(folder_.path(), {1, 3, {part(256, 512, 1000)}});
  write_moments(folder_.path(), {2, 3, {part(768, 232, 1000)}});
  const MomentFiles files(folder_.path());
  for (const auto& [begin, count] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 1000}, {200, 100}, {100, 800}, {768, 232}}) {
    const HeldMoment wanted = {"exp_avg.w", at::zeros({count}), begin, 1000};
    files.read(wanted);
    EXPECT_TRUE(at::equal(wanted.values, part(begin, count, 1000).values)) << begin;
  }
}

TEST_F(MomentFile, WhatIsMissingOrAnotherIsNamed) {
  EXPECT_NE(error_of(part(0, 256, 1000)).find("no moment 'exp_avg.w'"), std::string::npos);
  write_moments(folder_.path(), {0, 2, {part(0, 256, 1000)}});
  EXPECT_NE(error_of(part(0, 256, 1000)).find("has 256 elements, this run's has 1000"),
            std::string::npos);
  write_moments(folder_.path(), {1, 2, {part(512, 488, 1000)}});
  EXPECT_NE(error_of(part(0, 256, 1000)).find("from 256 on are missing"), std::string::npos);
  write_moments(folder_.path(), {1, 2, {part(256, 744, 1000)}});
  HeldMoment bytes = part(0, 256, 1000);
  bytes.values = bytes.values.to(at::kByte);
  EXPECT_NE(error_of(bytes).find("another type"), std::string::npos);
}

TEST_F(MomentFile, AShardThatDoesNotComeEndsTheWaiting) {
  const auto no = [] { return false; };
  const auto waiting = [&](const std::function<bool()>& give_up) {
    return error_text_of(ErrorKind::kIo,
                         [&] { wait_for_shards(folder_.path(), 2, give_up, kShort); });
  };
  EXPECT_NE(waiting(no).find("rank 1 has not written it in time"), std::string::npos);
  EXPECT_NE(waiting([] { return true; }).find("the run ends before rank 1"), std::string::npos);
  fs::create_directory(folder_ / moment_file_name(1, 3));  // in the way of the file
  EXPECT_ANY_THROW(leave_shard(folder_.path(), {1, 3, {part(0, 8, 8)}}));
  fs::remove(folder_ / moment_file_name(1, 3));
  const std::string text = error_text_of(
      ErrorKind::kIo, [&] { wait_for_shards(folder_.path(), 3, no, std::chrono::hours(1)); });
  EXPECT_NE(text.find("rank 1: "), std::string::npos) << text;
  leave_shard(folder_.path(), {1, 2, {part(0, 8, 8)}});
  wait_for_shards(folder_.path(), 2, no, kShort);
}

}  // namespace
}  // namespace llama2zh
