// Files are the message: they appear under their names when they are complete (write_safetensors), and
// a folder that several hosts share is needed anyway.
#include "train/shard_meeting.h"

#include <cerrno>
#include <fstream>
#include <string>
#include <thread>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr std::chrono::milliseconds kLook{20};

fs::path failure_note(const fs::path& folder, int64_t rank, int64_t ranks) {
  return folder / (moment_file_name(rank, ranks) + ".failed");
}

void wait_for_shard(const fs::path& folder, int64_t rank, int64_t ranks,
                    const std::function<bool()>& give_up,
                    std::chrono::steady_clock::time_point until) {
  const fs::path file = folder / moment_file_name(rank, ranks);
  const fs::path note = failure_note(folder, rank, ranks);
  while (!fs::exists(file)) {
    if (fs::exists(note)) fail_io(file.string(), cat("rank ", rank, ": ", read_file(note)));
    if (give_up()) fail_io(file.string(), cat("the run ends before rank ", rank, " has written"));
    if (std::chrono::steady_clock::now() > until) {
      fail_io(file.string(), cat("rank ", rank, " has not written it in time"));
    }
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace

void leave_shard(const fs::path& folder, const MomentShard& shard) {
  try {
    write_moments(folder, shard);
  } catch (const std::exception& error) {
    std::ofstream(failure_note(folder, shard.rank, shard.ranks)) << error.what();
    throw;
  }
}

void wait_for_shards(const fs::path& folder, int64_t ranks, const std::function<bool()>& give_up,
                     std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  for (int64_t rank = 1; rank < ranks; ++rank) {
    wait_for_shard(folder, rank, ranks, give_up, until);
  }
}

}  // namespace llama2zh
