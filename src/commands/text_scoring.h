#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "commands/answer_texts.h"
#include "llama2zh/base/json.h"
#include "llama2zh/config/option.h"
#include "llama2zh/eval/text_scores.h"

namespace llama2zh {

// How evaluate text and evaluate generate score and report.
struct ScoringOptions {
  std::string reference_key = "auto";
  std::string by;
  std::string dictionary;
  bool words = false;
  bool json_output = false;
  static auto options() {
    using T = ScoringOptions;
    return std::tuple(
        option("reference_key", &T::reference_key,
               "JSON key of the reference; auto: label, reference or target, a dialogue's last "
               "answer, output, response, answer or text."),
        option("by", &T::by,
               "JSON key of the references' rows: scores for each of its values too, such as "
               "task_type."),
        option("dictionary", &T::dictionary,
               "Words of your own, \"word [frequency] [tag]\" a line, as jieba's load_userdict "
               "takes them."),
        option("words", &T::words, "Write how the texts were cut into words to the rows' file."),
        option("json", &T::json_output, "One object: means, standard errors, groups."));
  }
  WordSegmenter segmenter() const;
};

struct AnswerScores {
  ScoreSummary all;
  std::map<std::string, ScoreSummary> groups;
  int64_t blank = 0;   // predictions
  int64_t failed = 0;  // of them, rows without an answer
};

// Scores pairs. With `rows_file` each row's texts and scores go there as JSON lines, atomically.
AnswerScores score_answers(const ScoringOptions& options,
                           const std::vector<AnswerText>& predictions,
                           const std::vector<AnswerText>& references,
                           const std::filesystem::path& rows_file);

// On standard output; `head`: what stands first in the JSON object.
void report_scores(const ScoringOptions& options, const AnswerScores& scores, ordered_json head);

// kUsage if `file` exists, unless `overwrite`, or is one of `inputs`; "" is no file.
void check_rows_file(const std::string& option, const std::string& file, bool overwrite,
                     const std::vector<std::string>& inputs);

}  // namespace llama2zh
