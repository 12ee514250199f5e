// What the benches of training share.
#include "commands/bench_training.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <cstdio>
#include <filesystem>

#include "commands/shapes.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/train/rope_scaling.h"

namespace llama2zh {
namespace {

// Four digits are more than a measurement is good for.
double measured(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  return rounded(value, std::max(0, 3 - static_cast<int>(std::floor(std::log10(std::abs(value))))));
}

std::string number_text(const ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value.get<double>());
  return text;
}

double in_gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

OptionTable bench_option_table(BenchOptions& bench, RunConfig& run) {
  OptionTable table = bind_options(bench);
  for (OptionEntry& entry : bind_options(run)) table.push_back(std::move(entry));
  return table;
}

BenchModel open_bench_model(const BenchOptions& bench, RunConfig& run) {
  if (!run.model.peft_path.empty()) {
    fail_usage("model.peft_path", "a bench measures a new adapter: this one would not be read",
               "leave it out, and give lora.* its ranks");
  }
  if (bench.shape.empty() == run.model.path.empty()) {
    fail_usage("bench", "expected either --shape or --model.path",
               cat("shapes are ", join(shape_names(), ", ")));
  }
  const at::Device device = parse_device(run.model.device);
  BenchModel result;
  LlamaConfig config;
  const auto seed = static_cast<uint64_t>(run.train.seed);
  if (bench.shape.empty()) {
    OpenModel open = open_model(run.model.path);
    apply_rope_scaling(run.model.rope_scaling, open.config);
    config = open.config;
    const at::ScalarType dtype = parse_dtype(run.model.dtype, config, device);
    result.name = std::filesystem::path(run.model.path).filename().string();
    result.model = load_model(open, dtype, device, ModelUse::kTraining);
  } else {
    config = named_shape(bench.shape);
    apply_rope_scaling(run.model.rope_scaling, config);
    const at::ScalarType dtype = parse_dtype(run.model.dtype, config, device);
    result.name = bench.shape;
    result.model = random_model(config, seed, dtype, device);
  }
  run.model.device = device.str();
  run.model.dtype = dtype_name(result.model->compute_dtype());
  result.model->for_each_weight([&](const std::string&, at::Tensor& weight) {
    if (weight.defined()) result.weight_bytes += static_cast<uint64_t>(weight.nbytes());
  });
  result.model->for_each_projection([&](const std::string&, const Linear& linear) {
    if (linear.quantized) result.weight_bytes += linear.quantized->bytes();
  });
  const TrainScope scope{run.train.first_trained_row, run.train.freeze};
  if (run.method == "full") {
    train_all_parameters(*result.model, scope);
  } else {
    inject_lora(*result.model, run.lora, seed, scope);
  }
  for (const NamedParameter& parameter : trained_parameters(*result.model)) {
    result.trained += parameter.tensor.numel();
  }
  if (result.trained == 0) fail_usage("train.freeze", "nothing is left to train", "freeze less");
  return result;
}

ordered_json bench_report(const std::string& what, const BenchModel& bench, const RunConfig& run,
                          const BenchMeasurement& measurement) {
  const double backward = measurement.best_backward_seconds();
  const double update = measurement.best_update_seconds();
  const auto steps = static_cast<double>(measurement.steps.size());
  const StepTiming sum = measurement.sum();
  const double tokens = static_cast<double>(sum.tokens) / steps, flops = sum.flops / steps;
  const uint64_t over =
      measurement.peak_memory - std::min(measurement.peak_memory, bench.weight_bytes);
  return {{"what", what},
          {"model", bench.name},
          {"method", run.method},
          {"trained", bench.trained},
          {"dtype", run.model.dtype},
          {"device", run.model.device},
          {"threads", at::get_num_threads()},
          {"block", run.data.block_size},
          {"micro_batch", run.train.micro_batch_size},
          {"accumulation", run.train.gradient_accumulation_steps},
          {"checkpointing", run.train.gradient_checkpointing},
          {"zero_stage", run.distributed.zero_stage},
          {"offload", run.distributed.offload_optimizer},
          {"loss", measured(sum.loss)},
          {"fwdbwd_s", measured(backward)},
          {"opt_s", measured(update)},
          {"tok_s_micro", measured(tokens / backward)},
          {"tok_s", measured(tokens / (backward + update))},
          {"gemm_peak_gflops", measured(measurement.product_peak / 1e9)},
          {"share_of_peak", measured(flops / backward / measurement.product_peak)},
          {"mfu", measured(flops / (backward + update) / measurement.product_peak)},
          {"weights_gib", measured(in_gib(bench.weight_bytes))},
          {"peak_gib", measured(in_gib(measurement.peak_memory))},
          {"peak_over_weights_gib", measured(in_gib(over))}};
}

void print_report(const ordered_json& report, bool as_json) {
  if (as_json) {
    std::puts(report.dump().c_str());
    return;
  }
  for (const auto& [key, value] : report.items()) {
    std::printf("%-22s %s\n", key.c_str(), number_text(value).c_str());
  }
}

}  // namespace llama2zh
