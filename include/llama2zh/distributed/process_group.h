#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/distributed/rank_environment.h"

namespace c10d {
class ProcessGroup;
}

namespace llama2zh {

// All ranks of a run, and what they do together. Every rank has to make the same calls in the same
// order; each returns when this rank's part is done. Tensors are contiguous, of equal shape and type
// on all ranks, on the CPU (Gloo) or on the group's CUDA device (NCCL).
//
// An error is kIo and names what was being done, the ranks that were lost (ended, or silent for the
// timeout) and, where they say so, what the others were doing. The group is of no use afterwards.
// One thread.
class ProcessGroup {
 public:
  // Meets the other ranks; a rank that waits says so after ten seconds, naming who is missing. Later
  // one that waits in an exchange for longer than `patience` says for what. The
  // store that they meet at listens on environment.master_addr alone, and Gloo on this host's
  // address towards it. `timeout` holds for this and for every exchange. SIGPIPE is ignored from then
  // on. kUsage for a CUDA device in a build without CUDA.
  ProcessGroup(const RankEnvironment& environment, at::Device device,
               std::chrono::milliseconds timeout,
               std::chrono::milliseconds patience = std::chrono::seconds(30));
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int64_t rank() const { return environment_.rank; }
  int64_t size() const { return environment_.world_size; }
  bool is_first() const { return rank() == 0; }

  // `what` ("the gradients of step 5") is for errors.
  void all_reduce(at::Tensor& tensor, const std::string& what);  // sum, in place
  std::vector<double> sum(const std::vector<double>& values, const std::string& what);
  bool any(bool flag, const std::string& what);
  at::Tensor all_gather(const at::Tensor& tensor, const std::string& what);  // [N, ...]
  // [N, ...] on rank 0, undefined on the others.
  at::Tensor gather(const at::Tensor& tensor, const std::string& what);
  void broadcast(at::Tensor& tensor, int64_t root, const std::string& what);
  // [N * n], of which the r-th n are rank r's: every rank gets all of them, in place.
  void share_parts(at::Tensor& whole, const std::string& what);
  void barrier(const std::string& what);

  // Runs `communicate`, which uses backend() and may compute for long, and turns its errors into
  // those described above.
  void guarded(const std::string& what, const std::function<void()>& communicate);
  c10d::ProcessGroup& backend();

 private:
  struct State;
  void exchange(const std::string& what, bool computes, const std::function<void()>& communicate);
  [[noreturn]] void fail(const std::string& what, const std::string& problem);
  RankEnvironment environment_;
  std::chrono::milliseconds timeout_;
  std::unique_ptr<State> state_;
};

}  // namespace llama2zh
