#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace llama2zh {

// One operator's time in a profile.
struct OperatorTime {
  std::string name;
  int64_t calls = 0;
  double seconds =
      0;  // its own: without the operators that it called; on a GPU that of its kernels
};

// Traces some steps of a run with libtorch's profiler: its operators, on a GPU the kernels, and our
// spans (step, data, forward, backward, update). Steps of one thread; nothing costs anything before
// begin() and after the last step.
class StepProfiler {
 public:
  // The session's steps skip + 1 ... skip + steps (the first ones, which allocate, are skipped).
  StepProfiler(std::filesystem::path folder, int64_t skip, int64_t steps, at::Device device);
  ~StepProfiler();
  StepProfiler(const StepProfiler&) = delete;
  StepProfiler& operator=(const StepProfiler&) = delete;

  void before_step();
  // After the last traced step: writes FOLDER/trace.json (Chrome's trace format, for
  // ui.perfetto.dev or chrome://tracing) and FOLDER/operators.txt, and logs the top of the latter.
  // kIo if they can't be written.
  void after_step();
  // Ends and writes what there is: the run ends before all of its steps were traced.
  void finish();

 private:
  std::filesystem::path folder_;
  int64_t skip_, steps_, seen_ = 0;
  at::Device device_;
  bool active_ = false, done_ = false;
};

// Rows "name, calls, seconds, share", by descending time, the first `rows` of them.
std::string operator_table(const std::vector<OperatorTime>& operators, size_t rows);

}  // namespace llama2zh
