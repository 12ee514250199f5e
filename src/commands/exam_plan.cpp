#include "commands/exam_plan.h"

#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

void refuse_combinations(const ExamVerbOptions& options, ExamSuite suite, bool extract) {
  const bool harness = options.prompt == "harness", chat = options.template_form == "chat";
  if (harness && (options.cot || chat || extract || options.letters != "auto")) {
    fail_usage("prompt",
               "the harness's tasks score the texts \" A\" to \" D\" behind a raw prompt: no cot, "
               "chat template, extraction or choice of letters",
               "take --prompt official for those");
  }
  if (options.cot && !extract)
    fail_usage("score", "what is thought must be generated", "leave --score out with --cot");
  if (options.cot && chat && options.shots == 0 && suite == ExamSuite::kCeval) {
    fail_usage("shots", "C-Eval's messages ask for thoughts by their shots alone",
               "give --shots 1 to 5, or --template raw");
  }
  if (extract && options.letters != "auto")
    fail_usage("letters", "extraction looks at no logits", "leave it out");
  if (!extract && options.max_new_tokens > 0)
    fail_usage("max_new_tokens", "logits need no answer", "give --score extract, or leave it out");
  if (!chat && !options.chat_template.empty())
    fail_usage("chat_template", "the prompt is raw", "give --template chat");
}

}  // namespace

ExamPlan plan_exam(const ExamVerbOptions& options, ExamSuite suite) {
  ExamPlan plan;
  const bool extract = options.score == "extract" || (options.score == "auto" && options.cot);
  refuse_combinations(options, suite, extract);
  plan.chat = options.template_form == "chat";
  plan.exam.protocol = {suite, options.prompt == "harness", options.cot};
  plan.exam.extract = extract;
  plan.exam.letters = options.letters;
  plan.exam.max_new_tokens = options.max_new_tokens > 0   ? options.max_new_tokens
                             : (options.cot || plan.chat) ? 512
                                                          : 32;
  plan.exam.seed = options.seed;
  plan.source.suite = suite;
  plan.source.folder = options.data;
  const bool ceval = suite == ExamSuite::kCeval;
  plan.source.split = options.split != "auto" ? options.split : ceval ? "val" : "test";
  plan.source.subjects = options.subjects;
  plan.source.shots = options.shots;
  plan.source.explanations = options.cot && ceval;
  plan.source.limit = options.limit;
  return plan;
}

}  // namespace llama2zh
