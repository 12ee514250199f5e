#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"

namespace llama2zh {

// A config with every member type, two levels of sections and every kind of range.
struct SampleLora {
  int64_t rank = 8;
  double dropout = 0.05;
  std::vector<std::string> targets = {"q_proj", "v_proj"};
  static auto options() {
    return std::tuple(
        option("rank", &SampleLora::rank, "Rank of A and B.", between(1, 4096)),
        option("dropout", &SampleLora::dropout, "Dropout of the branch.", in_half_open(0, 1)),
        option("target_modules", &SampleLora::targets, "Projections | that get one.",
               one_of({"q_proj", "k_proj", "v_proj"})));
  }
};

struct SampleTrain {
  SampleLora lora;
  double learning_rate = 1e-4;
  bool shuffle = true;
  static auto options() {
    return std::tuple(
        option("lora", &SampleTrain::lora, "The adapter."),
        option("learning_rate", &SampleTrain::learning_rate, "Peak rate.", greater_than(0)),
        option("shuffle", &SampleTrain::shuffle, "Random order of rows."));
  }
};

struct SampleConfig {
  std::string model;
  std::string dtype = "auto";
  int64_t max_steps = 0;
  std::vector<std::string> train_files;
  std::vector<int64_t> stop_ids = {2};
  std::optional<std::string> system;
  std::optional<int64_t> seed = 42;
  std::optional<double> cut;
  std::optional<bool> fast;
  SampleTrain train;
  static auto options() {
    return std::tuple(option("model", &SampleConfig::model, "Folder of the model."),
                      option("dtype", &SampleConfig::dtype, "Type of the weights.",
                             one_of({"auto", "float32", "bfloat16"})),
                      option("max_steps", &SampleConfig::max_steps, "Steps; 0: all.", at_least(0)),
                      option("train_files", &SampleConfig::train_files, "Files of rows."),
                      option("stop_ids", &SampleConfig::stop_ids, "Ids that end it.", at_least(0)),
                      option("system", &SampleConfig::system, "System prompt.", not_empty()),
                      option("seed", &SampleConfig::seed, "Seed.", at_least(0)),
                      option("cut", &SampleConfig::cut, "A number or none."),
                      option("fast", &SampleConfig::fast, "A flag or none."),
                      option("train", &SampleConfig::train, "Optimizer."));
  }
};

}  // namespace llama2zh
