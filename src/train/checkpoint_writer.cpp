// The thread that writes has its own, lower priority (Linux gives each thread one): on a CPU it
// shares the cores with the step that is being computed.
#include "llama2zh/train/checkpoint_writer.h"

#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <string>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

constexpr int kBackgroundNice = 10;
constexpr std::chrono::seconds kPatienceAtEnd{10};

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path output_dir, int64_t keep)
    : output_dir_(std::move(output_dir)), keep_(keep) {}

CheckpointWriter::~CheckpointWriter() {
  if (!flight_.valid()) return;
  if (flight_.wait_for(kPatienceAtEnd) != std::future_status::ready) ending_ = true;
  flight_.wait();
}

WrittenCheckpoint CheckpointWriter::write_and_rotate(const Snapshot& snapshot) const {
  const auto start = std::chrono::steady_clock::now();
  WrittenCheckpoint written;
  written.step = snapshot.state.step;
  written.best = snapshot.state.best;
  try {
    written.folder = write_checkpoint(output_dir_, snapshot, [this] { return ending_.load(); });
    if (!written.folder.empty()) {
      rotate_checkpoints(output_dir_, snapshot.state.run_id, keep_, snapshot.state.step,
                         snapshot.state.best.checkpoint);
    }
  } catch (...) {
    written.folder.clear();
    written.error = std::current_exception();
  }
  written.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return written;
}

void CheckpointWriter::start(Snapshot snapshot) {
  if (busy()) fail_usage("CheckpointWriter", "a checkpoint is being written already", "wait()");
  flight_ = std::async(std::launch::async, [this, snapshot = std::move(snapshot)]() mutable {
    ::setpriority(PRIO_PROCESS, 0, kBackgroundNice);  // 0: the calling thread; a wish
    const Snapshot own = std::move(snapshot);         // its copies go when it is written
    return write_and_rotate(own);
  });
}

std::optional<WrittenCheckpoint> CheckpointWriter::poll() {
  if (!busy() || flight_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return {};
  return flight_.get();
}

std::optional<WrittenCheckpoint> CheckpointWriter::wait() {
  if (!busy()) return std::nullopt;
  return flight_.get();
}

WrittenCheckpoint CheckpointWriter::write(const Snapshot& snapshot) {
  if (busy()) fail_usage("CheckpointWriter", "a checkpoint is being written already", "wait()");
  return write_and_rotate(snapshot);
}

std::optional<uint64_t> available_memory() {
  std::ifstream in("/proc/meminfo");
  std::string key;
  uint64_t kibibytes = 0;
  std::string rest;
  while (in >> key >> kibibytes && std::getline(in, rest)) {
    if (key == "MemAvailable:") return kibibytes * 1024;
  }
  return std::nullopt;
}

}  // namespace llama2zh
