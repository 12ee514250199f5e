// The published files. Columns are found by their names in the first row, for the two suites spell and
// order them differently and later releases added some.
#include <algorithm>
#include <map>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/csv.h"
#include "llama2zh/eval/exam.h"

namespace llama2zh {
namespace {

namespace fs = std::filesystem;

fs::path exam_file(const ExamSource& source, const std::string& split, const std::string& subject) {
  return source.folder / split /
         (source.suite == ExamSuite::kCeval ? cat(subject, "_", split, ".csv") : subject + ".csv");
}

class ExamFile {
 public:
  explicit ExamFile(fs::path path) : path_(std::move(path)), rows_(read_csv(path_)) {
    if (rows_.empty()) fail_format(path_.string(), "the file is empty");
    for (size_t i = 0; i < rows_.front().fields.size(); ++i) {
      std::string name = rows_.front().fields[i];
      for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
      columns_[name] = i;
    }
    for (const char* name : {"question", "a", "b", "c", "d"}) {
      if (!columns_.contains(name)) {
        fail_format(path_.string(), cat("its first row names no column \"", name, "\""),
                    "expected id, question, A, B, C, D and, but for C-Eval's test, answer");
      }
    }
  }

  int64_t size() const { return std::ssize(rows_) - 1; }

  ExamQuestion question(int64_t index) const {
    const CsvRow& row = rows_[static_cast<size_t>(index) + 1];
    ExamQuestion question;
    question.id = field(row, columns_.contains("id") ? "id" : "");
    if (question.id.empty()) question.id = std::to_string(index);
    question.question = field(row, "question");
    for (size_t i = 0; i < 4; ++i) question.choices[i] = field(row, std::string(1, "abcd"[i]));
    question.explanation = field(row, "explanation");
    const std::string answer = field(row, "answer");
    if (answer.empty()) return question;
    if (answer.size() != 1 || answer[0] < 'A' || answer[0] > 'D')
      fail_data(where(index), cat("its answer is \"", answer, "\", expected A, B, C or D"));
    question.answer = answer[0];
    return question;
  }

  std::string where(int64_t index) const {
    return cat(path_.string(), ":", rows_[static_cast<size_t>(index) + 1].line);
  }

 private:
  std::string field(const CsvRow& row, const std::string& name) const {
    const auto column = columns_.find(name);
    return column == columns_.end() ? std::string() : row.fields[column->second];
  }

  fs::path path_;
  std::vector<CsvRow> rows_;
  std::map<std::string, size_t> columns_;
};

std::vector<ExamQuestion> read_shots(const ExamSource& source, const std::string& subject) {
  std::vector<ExamQuestion> shots;
  if (source.shots == 0) return shots;
  const ExamFile file(exam_file(source, "dev", subject));
  if (file.size() < source.shots) {
    fail_usage("shots", cat(source.shots, " were asked for, but ",
                            exam_file(source, "dev", subject).string(), " has ", file.size()));
  }
  for (int64_t i = 0; i < source.shots; ++i) {
    shots.push_back(file.question(i));
    if (shots.back().answer == 0) fail_data(file.where(i), "a shot has no answer");
    if (source.explanations && shots.back().explanation.empty())
      fail_data(file.where(i), "a shot has no explanation to think along", "leave out --cot");
  }
  return shots;
}

std::vector<ExamQuestion> read_questions(const ExamSource& source, const std::string& subject) {
  const fs::path path = exam_file(source, source.split, subject);
  const ExamFile file(path);
  std::vector<ExamQuestion> questions;
  const int64_t count = source.limit > 0 ? std::min(source.limit, file.size()) : file.size();
  for (int64_t i = 0; i < count; ++i) {
    questions.push_back(file.question(i));
    if ((questions.back().answer == 0) != (questions.front().answer == 0))
      fail_data(file.where(i), "some questions have answers, some have none");
  }
  if (questions.empty()) fail_format(path.string(), "it has no question");
  return questions;
}

void check_exam_folder(const ExamSource& source) {
  if (source.suite == ExamSuite::kCmmlu && source.split != "test") {
    fail_usage("split", cat("CMMLU has no \"", source.split, "\""),
               "its questions are in test, and its shots in dev");
  }
  if (!fs::is_directory(source.folder / source.split)) {
    fail_usage(source.folder.string(), cat("it has no folder ", source.split),
               "name the folder that holds dev, val and test as they are published");
  }
}

}  // namespace

std::vector<ExamSubject> load_exam(const ExamSource& source) {
  check_exam_folder(source);
  std::vector<ExamSubject> found;
  std::vector<std::string> names;
  for (ExamSubject& subject : exam_subjects(source.suite, source.folder)) {
    if (!fs::exists(exam_file(source, source.split, subject.name))) continue;
    names.push_back(subject.name);
    found.push_back(std::move(subject));
  }
  if (found.empty()) {
    fail_usage((source.folder / source.split).string(),
               cat("no file is one of ", exam_name(source.suite), "'s subjects"),
               cat("expected names as ",
                   exam_file(source, source.split,
                             source.suite == ExamSuite::kCeval ? "logic" : "nutrition")
                       .filename()
                       .string()));
  }
  for (const std::string& wanted : source.subjects) {
    if (std::find(names.begin(), names.end(), wanted) != names.end()) continue;
    const std::string close = nearest(wanted, names);
    fail_usage(
        "subjects", cat("\"", wanted, "\" is not in ", source.folder.string()),
        close.empty() ? cat("there are ", join(names, ", ")) : cat("did you mean ", close, "?"));
  }
  std::vector<ExamSubject> subjects;
  for (ExamSubject& subject : found) {
    const auto& wanted = source.subjects;
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), subject.name) == wanted.end())
      continue;
    subject.shots = read_shots(source, subject.name);
    subject.questions = read_questions(source, subject.name);
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

}  // namespace llama2zh
