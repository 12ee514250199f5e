// What pretrain and sft share.
#include "commands/training_verb.h"

#include "llama2zh/engine/generator.h"
#include "llama2zh/train/recipe.h"

namespace llama2zh {
namespace {

std::string answer_greedily(const Llama& model, const Tokenizer& tokenizer,
                            const SampleRequest& request) {
  SamplingConfig greedy;
  greedy.temperature = 0;
  greedy.max_new_tokens = request.max_new_tokens;
  return Generator(model, tokenizer)
      .generate(request.prompt, greedy, request.stops,
                [&](std::string_view) { return !request.stop(); })
      .text;
}

}  // namespace

int run_training_verb(const CommandSpec& spec, RowKind kind, const std::vector<std::string>& args) {
  RunConfig config;
  const OptionTable options = bind_options(config);
  if (parse_command_line(spec, options, args).help) return 0;
  run_training(config, kind, answer_greedily);
  return 0;
}

}  // namespace llama2zh
