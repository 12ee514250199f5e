#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"
#include "llama2zh/eval/exam_run.h"

namespace llama2zh {

// Options of `evaluate ceval` and `evaluate cmmlu` beside the model's.
struct ExamVerbOptions {
  std::string data;
  std::string split = "auto";
  std::string prompt = "official";
  int64_t shots = 5;
  bool cot = false;
  std::string template_form = "raw";
  std::string chat_template;
  std::string score = "auto";
  std::string letters = "auto";
  int64_t max_new_tokens = 0;
  int64_t seed = 0;
  std::vector<std::string> subjects;
  int64_t limit = 0;
  std::string output;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = ExamVerbOptions;
    return std::tuple(
        option(
            "data", &T::data,
            "Folder of the exam as it is published: dev, val and test with a CSV file a subject; "
            "for C-Eval also subject_mapping.json."),
        option("split", &T::split, "Questions to ask; auto: C-Eval's val, CMMLU's test.",
               one_of({"auto", "val", "test"})),
        option("prompt", &T::prompt,
               "How to put them: as the exam's own programs, or as lm-evaluation-harness.",
               one_of({"official", "harness"})),
        option("shots", &T::shots, "Solved questions of dev in front of each.", between(0, 5)),
        option("cot", &T::cot, "Let the model think before it answers (official prompts)."),
        option("template", &T::template_form,
               "The prompt as it is, or as messages in the model's chat template.",
               one_of({"raw", "chat"})),
        option("chat_template", &T::chat_template, "Name of the template; empty: the model's own."),
        option("score", &T::score,
               "Choose the likeliest letter, or generate an answer and extract its letter; auto: "
               "logits, with cot extract.",
               one_of({"auto", "logits", "extract"})),
        option("letters", &T::letters,
               "Tokens of the letters for official logits: the text A alone (word), the bare piece "
               "A, or both added; auto: the exam's own program's, with a chat template both.",
               one_of({"auto", "word", "bare", "both"})),
        option("max_new_tokens", &T::max_new_tokens,
               "Tokens of an answer to extract from; 0: 512 with cot or chat, else 32.",
               at_least(0)),
        option("seed", &T::seed,
               "Of the guesses where an answer to CMMLU names no letter: its rule is to guess.",
               at_least(0)),
        option("subjects", &T::subjects, "Only these, by the names of their files."),
        option("limit", &T::limit, "Questions of a subject, from the first; 0: all.", at_least(0)),
        option("output", &T::output,
               "Folder for results.json, results.csv, predictions.jsonl and C-Eval's "
               "submission.json; empty: none."),
        option("overwrite", &T::overwrite, "Replace the output folder."),
        option("json", &T::json_output, "Print results.json instead of the table."));
  }
};

struct ExamPlan {
  ExamSource source;
  ExamOptions exam;
  bool chat = false;
};
// kUsage for options that do not go together.
ExamPlan plan_exam(const ExamVerbOptions& options, ExamSuite suite);

}  // namespace llama2zh
