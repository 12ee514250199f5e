#pragma once

#include <string>
#include <vector>

#include "llama2zh/formats/peft.h"

namespace llama2zh {

// kUsage for a pattern that matches none of the modules that get an adapter: it would do nothing.
void check_lora_patterns(const PeftConfig& rules, const std::vector<std::string>& adapted);

}  // namespace llama2zh
