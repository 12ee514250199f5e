// What pretrain and sft share.
#include "commands/training_verb.h"

#include "llama2zh/train/recipe.h"

namespace llama2zh {

int run_training_verb(const CommandSpec& spec, RowKind kind, const std::vector<std::string>& args) {
  RunConfig config;
  const OptionTable options = bind_options(config);
  if (parse_command_line(spec, options, args).help) return 0;
  run_training(config, kind);
  return 0;
}

}  // namespace llama2zh
