// llama2zh evaluate text: how near answers that are there come to references, by ROUGE, BLEU, chrF
// and exact match.
#include <string>
#include <tuple>
#include <vector>

#include "commands/text_scoring.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/config/command_line.h"

namespace llama2zh {
namespace {

struct TextFilesOptions {
  std::string predictions;
  std::string references;
  std::string prediction_key = "auto";
  std::string output;
  bool overwrite = false;
  static auto options() {
    using T = TextFilesOptions;
    return std::tuple(
        option("predictions", &T::predictions,
               "Answers: JSON lines, one JSON array, or a .txt with one on each line; .gz and .zst "
               "too."),
        option("references", &T::references,
               "What they should be, row by row; empty: the rows of predictions have both."),
        option("prediction_key", &T::prediction_key,
               "JSON key of the answer; auto: predict, prediction, text, response, output, answer, "
               "or a dialogue's last answer."),
        option("output", &T::output, "Where each row's texts and scores go as JSON lines."),
        option("overwrite", &T::overwrite, "Replace output."));
  }
};

}  // namespace

int run_evaluate_text(const std::vector<std::string>& args) {
  TextFilesOptions files;
  ScoringOptions scoring;
  OptionTable table = bind_options(files);
  for (OptionEntry& entry : bind_options(scoring)) table.push_back(std::move(entry));
  const CommandSpec spec{
      .verb = "evaluate text",
      .summary = "Scores answers against references: ROUGE over words, BLEU, chrF and exact match.",
      .examples = {"llama2zh evaluate text --predictions answers.jsonl --references test.json",
                   "llama2zh evaluate text --predictions generated_predictions.jsonl --json",
                   "llama2zh evaluate text --predictions answers.jsonl --references test.json "
                   "--by task_type --output scores.jsonl"},
      .positional = {},
      .required = {"predictions"}};
  if (parse_command_line(spec, table, args).help) return 0;
  if (scoring.words && files.output.empty())
    fail_usage("words", "they go to the rows' file", "name it with --output");
  check_rows_file("output", files.output, files.overwrite, {files.predictions, files.references});

  const bool beside = files.references.empty();
  const std::string& references_file = beside ? files.predictions : files.references;
  const std::vector<AnswerText> references =
      read_answers(references_file, beside ? AnswerSide::kReferenceBeside : AnswerSide::kReference,
                   scoring.reference_key, scoring.by);
  const std::vector<AnswerText> predictions =
      read_answers(files.predictions, AnswerSide::kPrediction, files.prediction_key, "");
  check_pairs(predictions, files.predictions, references, references_file);
  install_stop_signals();
  const AnswerScores scores = score_answers(scoring, predictions, references, files.output);
  report_scores(scoring, scores,
                {{"predictions", files.predictions}, {"references", references_file}});
  return 0;
}

}  // namespace llama2zh
