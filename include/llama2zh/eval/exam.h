#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace llama2zh {

// Multiple-choice exams of four options in many subjects, in the layout they are published in.
//   C-Eval  {dev,val,test}/SUBJECT_{dev,val,test}.csv and subject_mapping.json
//   CMMLU   {dev,test}/SUBJECT.csv
enum class ExamSuite { kCeval, kCmmlu };

struct ExamQuestion {
  std::string id;  // as the file spells it
  std::string question;
  std::array<std::string, 4> choices;
  char answer = 0;  // 'A' to 'D'; 0: not published
  std::string explanation;
};

struct ExamSubject {
  std::string name;                     // of its files: "computer_network"
  std::string title;                    // in prompts: "计算机网络"
  std::vector<std::string> categories;  // "STEM"; some subjects have two
  std::vector<ExamQuestion> shots, questions;
};

struct ExamSource {
  ExamSuite suite = ExamSuite::kCeval;
  std::filesystem::path folder;
  std::string split;                  // "val" (C-Eval only) or "test"
  std::vector<std::string> subjects;  // empty: all whose files are there
  int64_t shots = 5;                  // the first of dev
  bool explanations = false;          // the shots must have them
  int64_t limit = 0;                  // questions of a subject, from the first; 0: all
};

// Subjects in the suite's own order. kUsage for a split or subject that is not there, kIo and kFormat
// for files that are missing or not what they should be, kData naming file and line for a row that is
// no question of four options.
std::vector<ExamSubject> load_exam(const ExamSource& source);

// The suite's subjects: name, title and categories, no questions. C-Eval's are those of the folder's
// subject_mapping.json.
std::vector<ExamSubject> exam_subjects(ExamSuite suite, const std::filesystem::path& folder);

std::string exam_name(ExamSuite suite);  // "ceval"

}  // namespace llama2zh
