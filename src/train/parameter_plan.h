#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/model/llama_config.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// A parameter that a run would train, known from shapes alone.
struct PlannedParameter {
  std::string name;  // as trained_parameters() has it
  int64_t elements = 0;
};

// What trains, train.freeze and train.first_trained_row taken into account. kUsage for patterns that
// are wrong or match nothing.
std::vector<PlannedParameter> planned_parameters(const LlamaConfig& model, const RunConfig& run);

// Bytes of AdamW's moments for them.
uint64_t optimizer_bytes(const std::vector<PlannedParameter>& parameters,
                         const TrainerConfig& config);

}  // namespace llama2zh
