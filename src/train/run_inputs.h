#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "llama2zh/data/loader.h"
#include "llama2zh/data/training_data.h"
#include "llama2zh/model/load.h"
#include "llama2zh/train/plan.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// Everything a run reads, opened and checked, weights not loaded yet.
struct RunInputs {
  OpenModel open;             // its config is what is trained with: model.rope_scaling is in it
  std::string base_identity;  // of the model as it is stored
  std::optional<PeftAdapter> adapter;  // of peft_path
  Tokenizer tokenizer;
  at::Device device;
  at::ScalarType dtype;
  TrainingData data;
};

// Resolves in `config` what was left open: device, dtype, the lora section where peft_path decides
// it (a warning for each value that it overrules). When `stop` ended the reading of the rows early,
// data.stopped is set.
RunInputs open_inputs(RunConfig& config, RowKind kind, const std::function<bool()>& stop);

LoaderOptions loader_options(const RunConfig& config, RowKind kind, const Tokenizer& tokenizer);
TrainingPlan make_plan(const RunConfig& config, const RunInputs& inputs, const BatchLoader& loader,
                       int64_t ranks = 1);

// The model with what trains marked: fp32 masters, taken from the stored weights without a detour
// over a narrower type.
std::unique_ptr<Llama> load_for_training(const RunConfig& config, const RunInputs& inputs);

}  // namespace llama2zh
