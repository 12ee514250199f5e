#include "commands/staged_output.h"

namespace llama2zh {

StagedFolder stage_output(const std::string& output, bool overwrite,
                          const std::vector<NamedInput>& inputs) {
  refuse_input_as_output("--output", output, inputs, Replaces::kFolder);
  if (overwrite) check_replaceable(output);
  install_stop_signals();
  return StagedFolder(output, overwrite ? Existing::kReplace : Existing::kRefuse);
}

}  // namespace llama2zh
