// Standard errors: of a subject sqrt(p (1 - p) / (n - 1)), as the harness has it; of a mean over
// subjects the square root of the sum of their squares, over the number of subjects.
#include "llama2zh/eval/exam_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "llama2zh/base/text.h"
#include "llama2zh/data/csv.h"

namespace llama2zh {
namespace {

void set_share(ExamScore& score) {
  const auto n = static_cast<double>(score.questions);
  score.accuracy = static_cast<double>(score.correct) / n;
  score.deviation = n > 1 ? std::sqrt(score.accuracy * (1 - score.accuracy) / (n - 1)) : 0;
}

ExamScore mean_of(const std::string& name, const std::vector<const ExamScore*>& subjects) {
  ExamScore mean;
  mean.name = name;
  double variance = 0;
  for (const ExamScore* subject : subjects) {
    ++mean.subjects;
    mean.questions += subject->questions;
    mean.correct += subject->correct;
    mean.accuracy += subject->accuracy;
    variance += subject->deviation * subject->deviation;
  }
  const auto n = static_cast<double>(mean.subjects);
  mean.accuracy /= n;
  mean.deviation = std::sqrt(variance) / n;
  return mean;
}

ExamScore score_subject(const ExamSubject& subject, const std::vector<ExamAnswer>& answers,
                        ExamSummary& summary) {
  ExamScore score{subject.name, subject.title, subject.categories, 1, std::ssize(answers)};
  for (size_t i = 0; i < answers.size(); ++i) {
    const ExamAnswer& answer = answers[i];
    score.correct += answer.choice != 0 && answer.choice == subject.questions[i].answer;
    summary.without_answer += answer.choice == 0;
    summary.guessed += answer.guessed;
    summary.questions_with_dropped_shots += answer.dropped_shots > 0;
    summary.dropped_shots += answer.dropped_shots;
    summary.cut_prompts += answer.cut;
  }
  set_share(score);
  return score;
}

ordered_json score_json(const ExamScore& score, bool scored, bool subject) {
  ordered_json out = {{"name", score.name}};
  if (subject) {
    out["title"] = score.title;
    out["categories"] = score.categories;
  } else {
    out["subjects"] = score.subjects;
  }
  out["questions"] = score.questions;
  if (!scored) return out;
  out["correct"] = score.correct;
  out["accuracy"] = score.accuracy;
  out["standard_error"] = score.deviation;
  return out;
}

std::string score_row(const ExamScore& score, bool scored) {
  return csv_line({score.name, score.title, join(score.categories, ";"),
                   std::to_string(score.questions), scored ? std::to_string(score.correct) : "",
                   scored ? cat(score.accuracy) : "", scored ? cat(score.deviation) : ""});
}

std::string letter_text(char letter) { return letter == 0 ? "" : std::string(1, letter); }

std::string table_row(const ExamScore& score, bool scored, const std::string& what) {
  char numbers[96];
  if (scored) {
    std::snprintf(numbers, sizeof numbers, "%10lld %10lld %9.2f %6.2f  ",
                  static_cast<long long>(score.questions), static_cast<long long>(score.correct),
                  100 * score.accuracy, 100 * score.deviation);
  } else {
    std::snprintf(numbers, sizeof numbers, "%10lld %10s %9s %6s  ",
                  static_cast<long long>(score.questions), "", "", "");
  }
  return cat(numbers, what, "\n");
}

}  // namespace

ExamSummary summarize_exam(const std::vector<ExamSubject>& subjects, const ExamRun& run) {
  ExamSummary summary;
  summary.scored = true;
  for (size_t s = 0; s < subjects.size(); ++s) {
    summary.scored = summary.scored && subjects[s].questions.front().answer != 0;
    summary.subjects.push_back(score_subject(subjects[s], run.answers[s], summary));
  }
  std::vector<std::string> names;
  std::vector<const ExamScore*> all;
  for (const ExamScore& subject : summary.subjects) {
    all.push_back(&subject);
    for (const std::string& category : subject.categories)
      if (std::find(names.begin(), names.end(), category) == names.end()) names.push_back(category);
  }
  for (const std::string& name : names) {
    std::vector<const ExamScore*> members;
    for (const ExamScore* subject : all) {
      const auto& own = subject->categories;
      if (std::find(own.begin(), own.end(), name) != own.end()) members.push_back(subject);
    }
    summary.categories.push_back(mean_of(name, members));
  }
  summary.average = mean_of("average", all);
  summary.by_question = summary.average;
  summary.by_question.name = "by question";
  set_share(summary.by_question);
  return summary;
}

ordered_json summary_json(const ExamSummary& summary) {
  const auto list = [&](const std::vector<ExamScore>& scores, bool subject) {
    ordered_json out = ordered_json::array();
    for (const ExamScore& score : scores) out.push_back(score_json(score, summary.scored, subject));
    return out;
  };
  return {{"scored", summary.scored},
          {"average", score_json(summary.average, summary.scored, false)},
          {"by_question", score_json(summary.by_question, summary.scored, false)},
          {"categories", list(summary.categories, false)},
          {"subjects", list(summary.subjects, true)},
          {"without_answer", summary.without_answer},
          {"guessed", summary.guessed},
          {"questions_with_dropped_shots", summary.questions_with_dropped_shots},
          {"dropped_shots", summary.dropped_shots},
          {"cut_prompts", summary.cut_prompts}};
}

std::string summary_csv(const ExamSummary& summary) {
  std::string out = csv_line(
      {"name", "title", "categories", "questions", "correct", "accuracy", "standard_error"});
  for (const auto* scores : {&summary.subjects, &summary.categories})
    for (const ExamScore& score : *scores) out += score_row(score, summary.scored);
  return out + score_row(summary.average, summary.scored) +
         score_row(summary.by_question, summary.scored);
}

std::string predictions_jsonl(const std::vector<ExamSubject>& subjects, const ExamRun& run) {
  std::string out;
  for (size_t s = 0; s < subjects.size(); ++s) {
    for (size_t q = 0; q < subjects[s].questions.size(); ++q) {
      const ExamQuestion& question = subjects[s].questions[q];
      const ExamAnswer& answer = run.answers[s][q];
      ordered_json row = {{"subject", subjects[s].name},
                          {"id", question.id},
                          {"prediction", letter_text(answer.choice)}};
      if (question.answer != 0) {
        row["answer"] = letter_text(question.answer);
        row["correct"] = question.answer == answer.choice;
      }
      if (answer.guessed) row["guessed"] = true;
      if (answer.scores[0] != 0)
        row["logprobs"] = answer.scores;
      else
        row["response"] = answer.response;
      row["prompt_tokens"] = answer.prompt_tokens;
      row["dropped_shots"] = answer.dropped_shots;
      if (answer.cut) row["cut"] = true;
      out += row.dump() + "\n";
    }
  }
  return out;
}

ordered_json submission_json(const std::vector<ExamSubject>& subjects, const ExamRun& run) {
  ordered_json out = ordered_json::object();
  for (size_t s = 0; s < subjects.size(); ++s) {
    ordered_json& answers = out[subjects[s].name] = ordered_json::object();
    for (size_t q = 0; q < subjects[s].questions.size(); ++q) {
      const char choice = run.answers[s][q].choice;
      answers[subjects[s].questions[q].id] = std::string(1, choice == 0 ? '-' : choice);
    }
  }
  return out;
}

std::string summary_table(const ExamSummary& summary) {
  char head[96];
  std::snprintf(head, sizeof head, "%10s %10s %9s %6s  subject\n", "questions", "correct",
                "accuracy", "+-");
  std::string out = head;
  for (const ExamScore& score : summary.subjects)
    out += table_row(score, summary.scored, cat(score.name, " ", score.title));
  out += "\n";
  for (const ExamScore& score : summary.categories)
    out += table_row(
        score, summary.scored,
        cat(score.name, ": ", score.subjects, score.subjects == 1 ? " subject" : " subjects"));
  out += table_row(summary.average, summary.scored, "average of the subjects");
  return out + table_row(summary.by_question, summary.scored, "of all questions");
}

}  // namespace llama2zh
