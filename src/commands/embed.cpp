// llama2zh embed: a vector for each text of a file.
#include <string>
#include <tuple>
#include <vector>

#include "commands/generate_rows.h"
#include "commands/inference_options.h"
#include "commands/verbs.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/config/command_line.h"

namespace llama2zh {
namespace {

struct EmbedOptions {
  std::string input;
  std::string output;
  std::string pooling = "mean";
  bool normalize = false;
  std::string use_adapter;
  bool overwrite = false;
  static auto options() {
    using T = EmbedOptions;
    return std::tuple(
        option("input", &T::input,
               "JSON lines file (.gz, .zst too); each row has a \"text\" or \"prompt\"."),
        option("output", &T::output,
               "Where {\"index\", \"embedding\", \"tokens\"} of each row go. Begun again after an "
               "interruption it goes on."),
        option(
            "pooling", &T::pooling,
            "mean: of the hidden states of all tokens, BOS too, behind the final norm; last: that "
            "of the last token.",
            one_of({"mean", "last"})),
        option("normalize", &T::normalize, "Vectors of length 1."),
        option(
            "use_adapter", &T::use_adapter,
            "Which of the adapters given as NAME=DIR; a row's own \"adapter\" counts before it."),
        option("overwrite", &T::overwrite, "Replace output, and begin it anew."));
  }
};

}  // namespace

int run_embed(const std::vector<std::string>& args) {
  InferenceOptions inference;
  EmbedOptions options;
  EngineConfig engine;
  OptionTable engine_table = bind_options(engine);
  std::erase_if(engine_table,
                [](const OptionEntry& entry) { return entry.key.starts_with("specul"); });
  const OptionTable table =
      join_tables({bind_options(inference), bind_options(options), engine_table});
  const CommandSpec spec{
      .verb = "embed",
      .summary = "A vector for each text of a file: hidden states of the model, pooled.",
      .examples = {"llama2zh embed --model MODEL --input rows.jsonl --output vectors.jsonl",
                   "llama2zh embed --model MODEL --pooling last --normalize --input rows.jsonl "
                   "--output vectors.jsonl"},
      .positional = {},
      .required = {"model", "input", "output"}};
  if (parse_command_line(spec, table, args).help) return 0;
  const LoadedModel loaded = load_for_inference(inference.request());
  install_stop_signals();
  RowsJob job{options.input, options.output, options.overwrite};
  job.form.raw = true;
  job.engine = engine;
  job.adapter = options.use_adapter;
  job.kind = options.pooling == "mean" ? RequestKind::kMeanEmbedding : RequestKind::kLastEmbedding;
  job.normalize = options.normalize;
  job.settings = answer_settings(table);
  generate_rows(loaded, job);
  return 0;
}

}  // namespace llama2zh
