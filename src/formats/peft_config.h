#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/module_pattern.h"
#include "llama2zh/formats/peft.h"

namespace llama2zh {

// The regexes of a PeftConfig, compiled once: for loops over all modules of an adapter.
class PeftRules {
 public:
  // `where` is named in errors. The config must outlive the rules.
  PeftRules(const PeftConfig& config, std::string_view where);

  bool targets(std::string_view module) const;
  bool saves(std::string_view module) const;  // modules_to_save names it
  int64_t rank_of(std::string_view module) const;
  double scaling_of(std::string_view module) const;

 private:
  const PeftConfig& config_;
  std::vector<ModulePattern> target_;
  std::vector<std::pair<ModulePattern, int64_t>> ranks_;
  std::vector<std::pair<ModulePattern, double>> alphas_;
};

// adapter_config.json as we write it.
ordered_json peft_config_json(const PeftConfig& config);

inline constexpr const char* kPeftConfigName = "adapter_config.json";
inline constexpr const char* kPeftWeightsName = "adapter_model.safetensors";
inline constexpr const char* kPeftWeightsBinName = "adapter_model.bin";

}  // namespace llama2zh
