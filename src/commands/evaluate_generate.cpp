// llama2zh evaluate generate: answers a test set as generate does with a file of rows, then scores the
// answers against those that stand in the rows.
#include <string>
#include <tuple>
#include <vector>

#include "commands/generate_rows.h"
#include "commands/inference_options.h"
#include "commands/text_scoring.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"

namespace llama2zh {
namespace {

struct TestSetOptions {
  std::string scores;
  static auto options() {
    return std::tuple(option("scores", &TestSetOptions::scores,
                             "Where each row's texts and scores go as JSON lines."));
  }
};

CommandSpec evaluate_generate_spec() {
  return {.verb = "evaluate generate",
          .summary = "Answers a test set and scores the answers as evaluate text does.",
          .examples = {"llama2zh evaluate generate --model chat --input test.json --output "
                       "answers.jsonl --temperature 0",
                       "llama2zh evaluate generate --model base --adapter out/sft --input "
                       "test.jsonl --output answers.jsonl --scores scores.jsonl --by task_type "
                       "--json"},
          .positional = {"input"},
          .required = {"model", "input", "output"}};
}

// Before the model is loaded.
void check_output_files(const AnswerOptions& answers, const std::string& scores) {
  if (fs::exists(answers.output) && !answers.overwrite) {
    fail_usage(answers.output, "the answers are there already",
               cat("score them with `llama2zh evaluate text --predictions ", answers.output,
                   " --references ", answers.input, "`, or pass --overwrite"));
  }
  check_rows_file("output", answers.output, answers.overwrite, {answers.input});
  check_rows_file("scores", scores, answers.overwrite, {answers.input});
  if (!scores.empty() &&
      fs::path(scores).lexically_normal() == fs::path(answers.output).lexically_normal())
    fail_usage("scores", "it is the file of the answers", "choose another name");
}

}  // namespace

int run_evaluate_generate(const std::vector<std::string>& args) {
  InferenceOptions inference;
  AnswerOptions answers;
  TestSetOptions files;
  ScoringOptions scoring;
  SamplingConfig sampling;
  EngineConfig engine;
  SpeculationOptions speculation;
  const OptionTable asking =
      join_tables({bind_options(inference), bind_options(answers), bind_options(sampling),
                   bind_options(engine), bind_options(speculation)});
  const OptionTable table = join_tables({asking, bind_options(files), bind_options(scoring)});
  if (parse_command_line(evaluate_generate_spec(), table, args).help) return 0;
  if (scoring.words && files.scores.empty())
    fail_usage("words", "they go to the rows' file", "name it with --scores");
  check_output_files(answers, files.scores);
  const std::vector<AnswerText> references =
      read_answers(answers.input, AnswerSide::kReference, scoring.reference_key, scoring.by);

  LoadRequest request = inference.request(answers.template_name);
  speculation.apply(engine, request);
  const LoadedModel loaded = load_for_inference(request);
  if (!answers.raw)
    require_template(loaded, inference.model, ", or send the prompts without one by --raw");
  install_stop_signals();
  const RowsJob job = rows_job(answers, sampling, engine, asking);
  generate_rows(loaded, job);

  const std::vector<AnswerText> predictions =
      read_answers(answers.output, AnswerSide::kPrediction, "text", "");
  check_pairs(predictions, answers.output, references, answers.input);
  const AnswerScores scores = score_answers(scoring, predictions, references, files.scores);
  report_scores(scoring, scores,
                {{"input", answers.input},
                 {"input_xxh64", xxh64_file(answers.input)},
                 {"output", answers.output},
                 {"settings", parse_ordered_json(job.settings, "settings")}});
  return 0;
}

}  // namespace llama2zh
