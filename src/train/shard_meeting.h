#pragma once

#include <chrono>
#include <filesystem>
#include <functional>

#include "llama2zh/train/moment_files.h"

namespace llama2zh {

// How the ranks of a sharded run make one checkpoint, from threads that may not use the process
// group: rank 0 begins the folder, every rank puts its file there, rank 0 waits for all of them and
// completes it.

// write_moments(); if it fails, a note for rank 0 is left instead and the error goes on.
void leave_shard(const std::filesystem::path& folder, const MomentShard& shard);
// Until the files of all other ranks are in `folder`. kIo if one could not be written, with what that
// rank said; if `give_up` says so; or after `patience`.
void wait_for_shards(const std::filesystem::path& folder, int64_t ranks,
                     const std::function<bool()>& give_up, std::chrono::milliseconds patience);

}  // namespace llama2zh
