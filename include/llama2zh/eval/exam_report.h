#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/eval/exam_run.h"

namespace llama2zh {

struct ExamScore {
  std::string name, title;
  std::vector<std::string> categories;  // of a subject
  int64_t subjects = 0, questions = 0, correct = 0;
  double accuracy = 0;   // 0 to 1
  double deviation = 0;  // its standard error, were the questions a sample of such questions
};

// What the answers are worth. A subject's accuracy is the share of its questions that are answered
// right; a category's and the average are means over subjects, as both suites publish them;
// `by_question` is the mean over questions, as the harness's groups have it.
struct ExamSummary {
  bool scored = false;  // false: the questions' answers are not published; only counts are there
  std::vector<ExamScore> subjects, categories;
  ExamScore average, by_question;
  int64_t without_answer = 0, guessed = 0;  // of generated answers
  int64_t questions_with_dropped_shots = 0, dropped_shots = 0, cut_prompts = 0;
};
ExamSummary summarize_exam(const std::vector<ExamSubject>& subjects, const ExamRun& run);

ordered_json summary_json(const ExamSummary& summary);
// subject,title,category,questions,correct,accuracy,standard_error: subjects, categories, averages.
std::string summary_csv(const ExamSummary& summary);
// A row a question, in order.
std::string predictions_jsonl(const std::vector<ExamSubject>& subjects, const ExamRun& run);
// {subject: {id: letter}}, what C-Eval's site takes. A question without an answer gets "-", as its
// chatglm.py says.
ordered_json submission_json(const std::vector<ExamSubject>& subjects, const ExamRun& run);
// For people.
std::string summary_table(const ExamSummary& summary);

}  // namespace llama2zh
