// What pretrain, sft and dpo share.
#include "commands/training_verb.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
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

// dpo reads pairs and nothing else does.
void settle_format(std::string& format, bool preference) {
  if (preference && format == "auto") format = "preference";
  if (preference == (format == "preference")) return;
  if (preference) {
    fail_usage("data.format", cat("rows of the form ", format, " are no pairs of answers"),
               "expected auto or preference; for dialogues use `llama2zh sft`");
  }
  fail_usage("data.format", "pairs of answers are tuned on by `llama2zh dpo`");
}

}  // namespace

int run_training_verb(const CommandSpec& spec, RowKind kind, const std::vector<std::string>& args,
                      bool preference) {
  RunConfig config;
  const OptionTable options = bind_options(config);
  if (parse_command_line(spec, options, args).help) return 0;
  settle_format(config.data.format, preference);
  run_training(config, kind, answer_greedily);
  return 0;
}

}  // namespace llama2zh
