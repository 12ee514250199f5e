// llama2zh evaluate ceval, evaluate cmmlu: what a model knows, by multiple-choice questions in Chinese.
// The result says all that a number depends on: protocol, shots, template, scoring, prompts, model.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "commands/exam_plan.h"
#include "commands/inference_options.h"
#include "commands/model_checksums.h"
#include "commands/staged_output.h"
#include "commands/verbs.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/eval/exam_report.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

// All that the numbers depend on, then the numbers.
ordered_json result_json(const ExamPlan& plan, const ExamRun& run, const ExamSummary& summary,
                         const OptionTable& table, const LoadedModel& loaded,
                         const ordered_json& checksums) {
  ordered_json flags;
  for (const OptionEntry& entry : table) flags[entry.key] = entry.get();
  const int64_t tokens = run.computed_tokens + run.cached_tokens;
  ordered_json out = {
      {"exam", exam_name(plan.source.suite)},
      {"split", plan.source.split},
      {"score", plan.exam.extract ? "extract" : "logits"},
      {"chat_template", plan.exam.chat == nullptr ? "" : plan.exam.chat->name()},
      {"options", flags},
      {"program", "llama2zh " LLAMA2ZH_VERSION},
      {"prompts_sha256", run.prompts_sha256},
      {"tokenizer_sha256", loaded.tokenizer->fingerprint()},
      {"compute_dtype", dtype_name(loaded.model->compute_dtype())},
      {"prompt_tokens", tokens},
      {"cached_tokens", run.cached_tokens},
      {"cached_share",
       tokens == 0 ? 0.0 : static_cast<double>(run.cached_tokens) / static_cast<double>(tokens)},
      {"seconds", run.seconds}};
  out.update(checksums);
  out.update(summary_json(summary));
  return out;
}

// Shows the share of right answers so far.
class ExamProgress {
 public:
  explicit ExamProgress(const std::vector<ExamSubject>& subjects)
      : bar_("questions", count(subjects), "question") {}

  void add(const ExamSubject& subject, const ExamQuestion& question, const ExamAnswer& answer) {
    ++done_;
    right_ += question.answer != 0 && question.answer == answer.choice;
    note_ = subject.name;
    if (question.answer != 0)
      note_ +=
          cat(", ", rounded(100.0 * static_cast<double>(right_) / static_cast<double>(done_), 1),
              " % right so far");
    bar_.update(done_, note_);
  }
  void finish() { bar_.finish(); }

 private:
  static int64_t count(const std::vector<ExamSubject>& subjects) {
    int64_t questions = 0;
    for (const ExamSubject& subject : subjects) questions += std::ssize(subject.questions);
    return questions;
  }
  Progress bar_;
  std::string note_;
  int64_t done_ = 0, right_ = 0;
};

void write_results(const StagedFolder& folder, const ordered_json& result,
                   const ExamSummary& summary, const std::vector<ExamSubject>& subjects,
                   const ExamRun& run, const LoadedModel& loaded, ExamSuite suite) {
  write_json_file(folder.path() / "results.json", result);
  write_file_atomic(folder.path() / "results.csv", summary_csv(summary));
  write_file_atomic(folder.path() / "predictions.jsonl", predictions_jsonl(subjects, run));
  if (suite == ExamSuite::kCeval)
    write_json_file(folder.path() / "submission.json", submission_json(subjects, run));
  Manifest manifest{.kind = "evaluation", .tokenizer_sha256 = loaded.tokenizer->fingerprint()};
  write_manifest(folder.path(), manifest);
}

void print_exam(const ordered_json& result, const ExamSummary& summary) {
  std::fputs(summary_table(summary).c_str(), stdout);
  if (!summary.scored) std::puts("\nThe answers of these questions are not published.");
  std::printf("\n%s prompt tokens, %.1f %% of them from the cache, %.1f s\n",
              with_thousands(result["prompt_tokens"].get<int64_t>()).c_str(),
              100 * result["cached_share"].get<double>(), result["seconds"].get<double>());
  if (summary.questions_with_dropped_shots > 0)
    std::printf("%s prompts lost shots for want of context, %s in all\n",
                with_thousands(summary.questions_with_dropped_shots).c_str(),
                with_thousands(summary.dropped_shots).c_str());
  if (summary.cut_prompts > 0)
    std::printf("%s prompts lost their beginning for want of context\n",
                with_thousands(summary.cut_prompts).c_str());
  if (summary.without_answer + summary.guessed > 0)
    std::printf("%s answers name no letter%s\n",
                with_thousands(summary.without_answer + summary.guessed).c_str(),
                summary.guessed > 0 ? "; one was guessed, as CMMLU's program does" : "");
}

CommandSpec exam_spec(ExamSuite suite) {
  const std::string name = exam_name(suite), verb = "llama2zh evaluate " + name;
  return {.verb = "evaluate " + name,
          .summary = cat("Asks a model ", suite == ExamSuite::kCeval ? "C-Eval" : "CMMLU",
                         "'s questions: accuracy per subject and category."),
          .examples = {cat(verb, " --model base --data ", name, " --output base_", name),
                       cat(verb, " --model base --data ", name, " --prompt harness --subjects ",
                           suite == ExamSuite::kCeval ? "logic law" : "nutrition virology",
                           " --limit 20 --json"),
                       cat(verb, " --model chat --data ", name,
                           " --template chat --cot --output chat_", name)},
          .positional = {},
          .required = {"model", "data"}};
}

int run_exam_verb(const std::vector<std::string>& args, ExamSuite suite) {
  InferenceOptions inference;
  ExamVerbOptions options;
  EngineConfig engine;
  SpeculationOptions speculation;
  const OptionTable table = join_tables({bind_options(inference), bind_options(options),
                                         bind_options(engine), bind_options(speculation)});
  if (parse_command_line(exam_spec(suite), table, args).help) return 0;

  ExamPlan plan = plan_exam(options, suite);
  LoadRequest request = inference.plain_request(options.chat_template);
  speculation.apply(engine, request);
  const std::vector<ExamSubject> subjects = load_exam(plan.source);
  std::unique_ptr<StagedFolder> folder;
  if (!options.output.empty()) {
    folder.reset(
        new StagedFolder(stage_output(options.output, options.overwrite,
                                      {{"--data", options.data}, {"--model", inference.model}})));
  }
  const ordered_json checksums = model_checksums(request);
  const LoadedModel loaded = load_for_inference(request);
  if (plan.chat) plan.exam.chat = &require_template(loaded, inference.model);

  ExamProgress progress(subjects);
  const ExamRun run = run_exam(loaded, subjects, plan.exam, engine,
                               [&](const auto& subject, const auto& question, const auto& answer) {
                                 progress.add(subject, question, answer);
                               });
  progress.finish();
  const ExamSummary summary = summarize_exam(subjects, run);
  const ordered_json result = result_json(plan, run, summary, table, loaded, checksums);
  if (folder) {
    write_results(*folder, result, summary, subjects, run, loaded, suite);
    folder->commit();
    log_info(cat(options.output, ": results.json, results.csv, predictions.jsonl",
                 suite == ExamSuite::kCeval ? ", submission.json" : ""));
  }
  if (options.json_output)
    std::puts(result.dump().c_str());
  else
    print_exam(result, summary);
  return 0;
}

}  // namespace

int run_evaluate_ceval(const std::vector<std::string>& args) {
  return run_exam_verb(args, ExamSuite::kCeval);
}

int run_evaluate_cmmlu(const std::vector<std::string>& args) {
  return run_exam_verb(args, ExamSuite::kCmmlu);
}

}  // namespace llama2zh
