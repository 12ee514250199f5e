#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "llama2zh/base/file.h"
#include "llama2zh/train/sharded_adamw.h"

namespace llama2zh {

// What writing and reading of checkpoints share.
inline constexpr const char* kCheckpointPrefix = "checkpoint-";
inline constexpr const char* kStateTensorsFile = "state.safetensors";
inline constexpr const char* kRunStateFile = "run_state.json";
inline constexpr const char* kPartialSuffix = StagedFolder::kSuffix;
inline constexpr const char* kTrainerStateFile = "trainer_state.json";

// The run that a checkpoint is of; "" where it can't be read.
std::string run_id_of(const std::filesystem::path& checkpoint);
at::Device device_of(const ShardedAdamW& optimizer);
// Where checkpoint-STEP is built until it is whole.
std::filesystem::path partial_checkpoint(const std::filesystem::path& output_dir, int64_t step);
// Of the device's default generator.
at::Tensor random_state(at::Device device);
void reach_checkpoint_point(std::string_view point);  // calls the tests' hook

}  // namespace llama2zh
