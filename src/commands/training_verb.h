#pragma once

#include <string>
#include <vector>

#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {

// `pretrain`, `sft` and `dpo` (kSft with `preference`: rows of pairs) differ in their rows and loss
// only: parses RunConfig and runs the recipe of the train layer. Exit code 0 when the run finished,
// or was stopped and saved.
int run_training_verb(const CommandSpec& spec, RowKind kind, const std::vector<std::string>& args,
                      bool preference = false);

}  // namespace llama2zh
