#pragma once

#include <memory>
#include <string>
#include <tuple>

#include "llama2zh/base/json.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/model/load.h"
#include "llama2zh/train/bench.h"

namespace llama2zh {

// What `bench train` and `bench sft` have beside a run's own options.
struct BenchOptions {
  std::string shape;
  int64_t steps = 3;
  int64_t warmup = 1;
  bool json_output = false;
  static auto options() {
    using T = BenchOptions;
    return std::tuple(
        option("shape", &T::shape,
               "Random weights of this shape instead of model.path: 7b, 13b, 7b-layer, 13b-layer, "
               "m13, m135, tiny."),
        option("steps", &T::steps, "Optimizer steps that are timed.", at_least(1)),
        option("warmup", &T::warmup, "Steps before them.", at_least(0)),
        option("json", &T::json_output, "One JSON object."));
  }
};

// The bench's options, then those of a run: all that decides what a step costs can be measured. What
// is around the steps (log, evaluation, checkpoints) is not there.
OptionTable bench_option_table(BenchOptions& bench, RunConfig& run);

// A model ready to be trained as `run` says, from model.path or of random weights; device and dtype
// are resolved in `run`. kUsage unless exactly one of shape and model.path is given, and for
// model.peft_path.
struct BenchModel {
  std::unique_ptr<Llama> model;
  std::string name;
  uint64_t weight_bytes = 0;  // of the base in its stored type
  int64_t trained = 0;        // numbers
};
BenchModel open_bench_model(const BenchOptions& bench, RunConfig& run);

// What every bench reports: setting, seconds, rates, the share of the machine's peak, memory.
ordered_json bench_report(const std::string& what, const BenchModel& bench, const RunConfig& run,
                          const BenchMeasurement& measurement);
// As JSON on one line, or a line a key.
void print_report(const ordered_json& report, bool as_json);

}  // namespace llama2zh
