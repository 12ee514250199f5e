#pragma once

#include <string>
#include <vector>

namespace llama2zh {

// A row's answer, by a model or as it should be.
struct AnswerText {
  std::string text;
  std::string where;    // "file:line"
  std::string group;    // what the row has under the key that rows are grouped by
  bool failed = false;  // {"error": ...}, as generate writes for a row without an answer
};

enum class AnswerSide {
  kPrediction,  // auto: predict, prediction, text, response, output, answer
  kReference,  // auto: label, reference, target; a dialogue's last answer; output, response, answer,
               // text
  kReferenceBeside,  // in the file of the predictions; auto: label, reference, target
};

// The answers in a file of JSON lines, of one JSON array, or (.txt) of one on each line, blank ones
// too; also .gz and .zst. `key` of the text, or "auto". `by`: key of the group; "": there are none.
// kData names the row that has no such text, or whose reference is blank.
std::vector<AnswerText> read_answers(const std::string& file, AnswerSide side,
                                     const std::string& key, const std::string& by);

// kData unless there are as many of both: names the first row without a partner.
void check_pairs(const std::vector<AnswerText>& predictions, const std::string& predictions_file,
                 const std::vector<AnswerText>& references, const std::string& references_file);

}  // namespace llama2zh
