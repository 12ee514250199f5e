// libtorch's Kineto profiler does the recording and writes the trace. The table is made from the
// same events: intervals of a thread that nest; an operator's own time is its interval less those
// directly inside it. On a GPU the intervals of kernels are added up by name instead, since the
// calls that launch them return at once.
#include "llama2zh/train/step_profiler.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;

constexpr size_t kLoggedOperators = 12, kWrittenOperators = 60;

std::set<ActivityType> activities(at::Device device) {
  if (device.is_cpu()) return {ActivityType::CPU};
  return {ActivityType::CPU, ActivityType::CUDA};
}

struct Interval {
  uint64_t thread = 0, begin = 0, end = 0;
  std::string name;
};

std::vector<Interval> intervals_on(const std::vector<profiler::KinetoEvent>& events,
                                   c10::DeviceType device) {
  std::vector<Interval> intervals;
  for (const profiler::KinetoEvent& event : events) {
    if (event.deviceType() != device || event.isAsync() || event.isHiddenEvent()) continue;
    intervals.push_back({event.startThreadId(), event.startNs(), event.endNs(), event.name()});
  }
  std::sort(intervals.begin(), intervals.end(), [](const Interval& a, const Interval& b) {
    if (a.thread != b.thread) return a.thread < b.thread;
    return a.begin != b.begin ? a.begin < b.begin : a.end > b.end;
  });
  return intervals;
}

class TimesByName {
 public:
  void add(const std::string& name, double seconds, int64_t calls) {
    OperatorTime& time = times_[name];
    time.name = name;
    time.seconds += seconds;
    time.calls += calls;
  }
  std::vector<OperatorTime> sorted() const {
    std::vector<OperatorTime> result;
    for (const auto& [name, time] : times_) result.push_back(time);
    std::sort(result.begin(), result.end(),
              [](const OperatorTime& a, const OperatorTime& b) { return a.seconds > b.seconds; });
    return result;
  }

 private:
  std::map<std::string, OperatorTime> times_;
};

std::vector<OperatorTime> own_times(const std::vector<Interval>& intervals, bool nested) {
  TimesByName times;
  std::vector<const Interval*> open;  // those around the present one
  for (const Interval& interval : intervals) {
    const double seconds = static_cast<double>(interval.end - interval.begin) * 1e-9;
    times.add(interval.name, seconds, 1);
    if (!nested) continue;
    while (!open.empty() &&
           (open.back()->thread != interval.thread || open.back()->end <= interval.begin)) {
      open.pop_back();
    }
    if (!open.empty()) times.add(open.back()->name, -seconds, 0);
    open.push_back(&interval);
  }
  return times.sorted();
}

}  // namespace

StepProfiler::StepProfiler(fs::path folder, int64_t skip, int64_t steps, at::Device device)
    : folder_(std::move(folder)), skip_(skip), steps_(steps), device_(device) {}

StepProfiler::~StepProfiler() {
  if (active_) profiler::disableProfiler();
}

void StepProfiler::before_step() {
  if (done_ || active_ || seen_ < skip_) return;
  ::setenv("KINETO_LOG_LEVEL", "99", /*overwrite=*/0);  // its messages are for its developers
  const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO,
                                                     /*report_input_shapes=*/true);
  profiler::prepareProfiler(config, activities(device_));
  profiler::enableProfiler(
      config, activities(device_),
      {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE});
  active_ = true;
}

void StepProfiler::after_step() {
  ++seen_;
  if (active_ && seen_ >= skip_ + steps_) finish();
}

void StepProfiler::finish() {
  if (!active_) return;
  active_ = false;
  done_ = true;
  const auto result = profiler::disableProfiler();
  std::error_code error;
  fs::create_directories(folder_, error);
  const fs::path trace = folder_ / "trace.json";
  fs::remove(trace, error);
  result->save(trace);
  if (!fs::exists(trace)) fail_io(trace.string(), "the profile can't be written", errno);
  const bool cpu = device_.is_cpu();
  const std::vector<OperatorTime> times =
      own_times(intervals_on(result->events(), device_.type()), /*nested=*/cpu);
  write_file_atomic(folder_ / "operators.txt", operator_table(times, kWrittenOperators));
  log_info(cat("profile of ", seen_ - skip_, " steps: ", trace.string(),
               " (open it in ui.perfetto.dev or chrome://tracing)"));
  for (const std::string& line : split(operator_table(times, kLoggedOperators), '\n')) {
    if (!line.empty()) log_info(line);
  }
}

std::string operator_table(const std::vector<OperatorTime>& operators, size_t rows) {
  double total = 0;
  for (const OperatorTime& time : operators) total += time.seconds;
  std::string table = "   share    seconds    calls  operator\n";
  for (size_t i = 0; i < std::min(rows, operators.size()); ++i) {
    const OperatorTime& time = operators[i];
    char numbers[64];
    std::snprintf(numbers, sizeof numbers, "%6.1f %%  %9.4f  %7lld  ",
                  total > 0 ? 100 * time.seconds / total : 0, time.seconds,
                  static_cast<long long>(time.calls));
    table += numbers + time.name + "\n";
  }
  return table;
}

}  // namespace llama2zh
