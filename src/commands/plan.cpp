// llama2zh plan: how much memory a recipe takes on so many GPUs, from shapes alone.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/shapes.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/model/load.h"
#include "llama2zh/train/memory_plan.h"

namespace llama2zh {
namespace {

struct PlanOptions {
  std::vector<std::string> shapes;
  std::vector<int64_t> gpus = {1, 2, 4, 8};
  std::vector<int64_t> gpu_memory = {24, 40, 80};
  bool json_output = false;
  static auto options() {
    using T = PlanOptions;
    return std::tuple(
        option(
            "shapes", &T::shapes,
            "Shapes to plan for, instead of model.path: 7b, 13b, 7b-layer, 13b-layer, m13, m135, "
            "tiny; none: 7b and 13b."),
        option("gpus", &T::gpus, "Numbers of GPUs.", at_least(1)),
        option("gpu_memory", &T::gpu_memory, "Sizes of a GPU's memory, in GB.", at_least(1)),
        option("json", &T::json_output, "One JSON object a row."));
  }
};

struct NamedConfig {
  std::string name;
  LlamaConfig config;
};

std::vector<NamedConfig> planned_models(const PlanOptions& options, const RunConfig& run) {
  std::vector<NamedConfig> models;
  for (const std::string& shape : options.shapes) models.push_back({shape, named_shape(shape)});
  if (!models.empty()) return models;
  // A recipe's file names a model that need not be here.
  if (!run.model.path.empty() && std::filesystem::exists(run.model.path)) {
    return {{run.model.path, LlamaConfig::read(run.model.path)}};
  }
  return {{"7b", named_shape("7b")}, {"13b", named_shape("13b")}};
}

// "24, 40, 80 GB" of those that it fits into.
std::string fitting(const MemoryEstimate& estimate, const PlanOptions& options) {
  std::string sizes;
  for (const int64_t size : options.gpu_memory) {
    if (fits_gpu(estimate, static_cast<uint64_t>(size) * 1'000'000'000)) {
      sizes += cat(sizes.empty() ? "" : ", ", size);
    }
  }
  return sizes.empty() ? "none" : sizes;
}

std::string gib_text(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", static_cast<double>(bytes) / (1 << 30));
  return text;
}

void print_row(const NamedConfig& model, const RunConfig& run, const MemorySetting& setting,
               const PlanOptions& options) {
  const MemoryEstimate estimate = estimate_memory(model.config, run, setting);
  const bool checkpointing = run.train.gradient_checkpointing;
  const std::string fits = fitting(estimate, options);
  if (options.json_output) {
    std::puts(ordered_json{{"model", model.name},
                           {"gpus", setting.ranks},
                           {"zero_stage", run.distributed.zero_stage},
                           {"offload", run.distributed.offload_optimizer},
                           {"checkpointing", checkpointing},
                           {"frozen", estimate.frozen},
                           {"trained", estimate.trained},
                           {"working", estimate.working},
                           {"offloaded", estimate.offloaded},
                           {"total", estimate.total()},
                           {"fits_gb", fits}}
                  .dump()
                  .c_str());
    return;
  }
  std::printf("| %s | %lld | %lld | %s | %s | %s | %s | %s | %s | %s |\n", model.name.c_str(),
              static_cast<long long>(setting.ranks),
              static_cast<long long>(run.distributed.zero_stage), checkpointing ? "yes" : "no",
              gib_text(estimate.frozen).c_str(), gib_text(estimate.trained).c_str(),
              gib_text(estimate.working).c_str(), gib_text(estimate.total()).c_str(),
              gib_text(estimate.offloaded).c_str(), fits.c_str());
}

void print_head(const RunConfig& run, const std::vector<NamedConfig>& models) {
  std::printf("Method %s", run.method.c_str());
  if (run.method == "lora") {
    std::printf(" rank %lld on %zu projections%s", static_cast<long long>(run.lora.rank),
                run.lora.target_modules.size(),
                run.lora.modules_to_save.empty()
                    ? ""
                    : cat(", ", join(run.lora.modules_to_save, " and "), " in full").c_str());
  }
  std::printf("; %lld blocks of %lld tokens a micro-batch, %lld a step and GPU; %s.\n",
              static_cast<long long>(run.train.micro_batch_size),
              static_cast<long long>(run.data.block_size),
              static_cast<long long>(run.train.gradient_accumulation_steps),
              run.model.dtype.c_str());
  for (const NamedConfig& model : models) {
    std::printf("%s: %s parameters, %s trained.\n", model.name.c_str(),
                with_thousands(model.config.parameter_count()).c_str(),
                with_thousands(trainable_parameters(model.config, run)).c_str());
  }
  std::puts(
      "\n| model | GPUs | ZeRO | activation checkpointing | frozen GiB | trained GiB | working GiB "
      "| "
      "GiB a GPU | of the host, GiB a GPU | fits a GPU of GB |\n"
      "|---|---|---|---|---|---|---|---|---|---|");
}

}  // namespace

int run_plan(const std::vector<std::string>& args) {
  PlanOptions options;
  RunConfig run;
  run.model.dtype = "bfloat16";
  const CommandSpec spec{
      .verb = "plan",
      .summary =
          "Prints the memory that a recipe takes on so many GPUs, with ZeRO 0 to 2 and with and "
          "without activation checkpointing, and into which GPUs it fits. From shapes alone: "
          "nothing is loaded. Takes the options of pretrain.",
      .examples = {"llama2zh plan --config configs/pretrain_7b.json --shapes 7b 13b",
                   "llama2zh plan --shapes 7b --method full --gpus 8 --gpu-memory 80",
                   "llama2zh plan --model.path MODEL --block-size 2048"},
      .config_file = true};
  OptionTable table = bind_options(options);
  for (OptionEntry& entry : bind_options(run)) table.push_back(std::move(entry));
  if (parse_command_line(spec, table, args).help) return 0;

  const std::vector<NamedConfig> models = planned_models(options, run);
  const bool offload = run.distributed.offload_optimizer;
  if (!options.json_output) print_head(run, models);
  for (const NamedConfig& model : models) {
    for (const int64_t gpus : options.gpus) {
      // Offloading is of the stages' own parts.
      const int64_t first_stage = offload ? 1 : 0, last_stage = gpus == 1 ? first_stage : 2;
      for (int64_t stage = first_stage; stage <= last_stage; ++stage) {
        run.distributed.zero_stage = stage;
        for (const bool checkpointing : {false, true}) {
          run.train.gradient_checkpointing = checkpointing;
          MemorySetting setting;
          setting.bytes_per_number = run.model.dtype == "float32" ? 4 : 2;
          setting.gpu = true;
          setting.ranks = gpus;
          print_row(model, run, setting, options);
        }
      }
    }
  }
  return 0;
}

}  // namespace llama2zh
