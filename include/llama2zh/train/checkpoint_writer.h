#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <future>
#include <optional>

#include "llama2zh/train/checkpoint.h"

namespace llama2zh {

// How a write ended.
struct WrittenCheckpoint {
  int64_t step = 0;
  std::filesystem::path folder;  // empty if it failed, or another rank completes it
  BestModel best;                // as the checkpoint has it
  std::exception_ptr error;      // null if it did not
  double seconds = 0;            // that writing took
};

// Writes checkpoints, at most one at a time, and removes old ones after each that succeeded. In the
// background a thread of low priority does it, so that training is not held up. One thread calls.
class CheckpointWriter {
 public:
  // `keep`: newest checkpoints to leave; 0: all.
  CheckpointWriter(std::filesystem::path output_dir, int64_t keep);
  // Waits for the write in flight (for other ranks' parts of it ten seconds); how it ended is lost.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // The snapshot has to hold copies. No other write may be in flight: wait() first.
  void start(Snapshot snapshot);
  bool busy() const { return flight_.valid(); }
  // How the write in flight ended; none if there is none, or (poll) it has not ended yet.
  std::optional<WrittenCheckpoint> poll();
  std::optional<WrittenCheckpoint> wait();

  // In the calling thread; no other write may be in flight.
  WrittenCheckpoint write(const Snapshot& snapshot);

 private:
  WrittenCheckpoint write_and_rotate(const Snapshot& snapshot) const;
  std::filesystem::path output_dir_;
  int64_t keep_;
  std::atomic<bool> ending_ = false;
  std::future<WrittenCheckpoint> flight_;
};

// Bytes of host memory that a copy may take without pushing the machine into swapping; none where
// the system does not tell.
std::optional<uint64_t> available_memory();

}  // namespace llama2zh
