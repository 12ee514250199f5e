// Which text of a row is its answer.
#include "commands/answer_texts.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/data/json_rows.h"
#include "llama2zh/eval/text_scores.h"

namespace llama2zh {
namespace {

using Keys = std::vector<const char*>;
const Keys kPredictionKeys = {"predict", "prediction", "text", "response", "output", "answer"};
const Keys kReferenceKeys = {"label", "reference", "target"};
const Keys kAnswerKeys = {"output", "response", "answer", "text"};

std::string text_under(const json& row, const std::string& key, const std::string& where) {
  const auto found = row.find(key);
  if (found == row.end()) fail_data(where, cat("the row has no key \"", key, "\""));
  if (!found->is_string())
    fail_data(where, cat("\"", key, "\": expected a text, found ", found->type_name()));
  return found->get<std::string>();
}

std::optional<std::string> first_text(const json& row, const Keys& keys) {
  for (const char* key : keys)
    if (row.contains(key) && row[key].is_string()) return row[key].get<std::string>();
  return std::nullopt;
}

// The last answer of a row that is a dialogue in one of the forms that training reads.
std::optional<std::string> last_answer(const json& row, const std::string& where) {
  const auto has = [&row](const char* key) { return row.contains(key); };
  if (!has("conversations") && !has("messages") && !has("instruction") && !has("query"))
    return std::nullopt;
  const std::vector<Message> messages = parse_dialogue(row, "auto", where);
  if (messages.empty() || messages.back().role != Role::kAssistant)
    fail_data(where, "the dialogue does not end with an answer to compare with");
  return messages.back().content;
}

std::string answer_of(const json& row, AnswerSide side, const std::string& key,
                      const std::string& where) {
  if (key != "auto") return text_under(row, key, where);
  const bool predicted = side == AnswerSide::kPrediction;
  std::optional<std::string> text = first_text(row, predicted ? kPredictionKeys : kReferenceKeys);
  if (!text && side != AnswerSide::kReferenceBeside) text = last_answer(row, where);
  if (!text && side == AnswerSide::kReference) text = first_text(row, kAnswerKeys);
  if (text) return *text;
  if (side == AnswerSide::kReferenceBeside) {
    fail_data(where, "the row has no \"label\", \"reference\" or \"target\"",
              "name the file of references with --references, or their key with --reference-key");
  }
  fail_data(where,
            cat("none of the row's texts is known as ", predicted ? "an answer" : "a reference"),
            cat("name its key with --", predicted ? "prediction" : "reference", "-key"));
}

// A text as it is, anything else as JSON.
std::string group_of(const json& row, const std::string& by, const std::string& where) {
  if (by.empty()) return {};
  if (!row.contains(by)) fail_data(where, cat("the row has no key \"", by, "\" to group by"));
  return row[by].is_string() ? row[by].get<std::string>() : row[by].dump();
}

bool is_text_file(std::filesystem::path file) {
  if (file.extension() == ".gz" || file.extension() == ".zst") file = file.stem();
  return file.extension() == ".txt";
}

void refuse_blank_references(const std::string& file, const std::vector<AnswerText>& answers) {
  const auto is_blank = [](const AnswerText& answer) { return is_blank_text(answer.text); };
  if (std::all_of(answers.begin(), answers.end(), is_blank))
    fail_data(file,
              "all of its references are blank, as in a test set whose answers are not published",
              cat("answer it for its judges by `llama2zh generate --input ", file,
                  " --output FILE`, or score a set that has answers"));
  const auto blank = std::find_if(answers.begin(), answers.end(), is_blank);
  if (blank != answers.end())
    fail_data(blank->where, "the reference is blank, so no score is defined for it",
              "leave the row out, of the predictions too");
}

void read_text_lines(const std::string& file, std::vector<AnswerText>& answers) {
  LineReader lines(file);
  for (std::string line; lines.next(line);) {
    if (!is_utf8(line)) fail_data(lines.where(), "the text is not valid UTF-8");
    answers.push_back({line, lines.where(), {}, false});
  }
}

}  // namespace

std::vector<AnswerText> read_answers(const std::string& file, AnswerSide side,
                                     const std::string& key, const std::string& by) {
  std::vector<AnswerText> answers;
  if (is_text_file(file)) {
    if (!by.empty()) fail_usage("by", cat(file, " has lines of text, which have no keys"));
    read_text_lines(file, answers);
  } else {
    for (JsonRows rows(file); rows.next();) {
      const json row = rows.row();
      AnswerText answer{{}, rows.where(), group_of(row, by, rows.where()), false};
      answer.failed = side == AnswerSide::kPrediction && row.contains("error") &&
                      !first_text(row, kPredictionKeys);
      if (!answer.failed) answer.text = answer_of(row, side, key, answer.where);
      answers.push_back(std::move(answer));
    }
  }
  if (answers.empty()) fail_data(file, "it holds no rows");
  if (side != AnswerSide::kPrediction) refuse_blank_references(file, answers);
  return answers;
}

void check_pairs(const std::vector<AnswerText>& predictions, const std::string& predictions_file,
                 const std::vector<AnswerText>& references, const std::string& references_file) {
  if (predictions.size() == references.size()) return;
  const bool more_predictions = predictions.size() > references.size();
  const auto& longer = more_predictions ? predictions : references;
  const size_t shorter = std::min(predictions.size(), references.size());
  fail_data(longer[shorter].where,
            cat("row ", shorter + 1, " has no partner: ", predictions_file, " has ",
                predictions.size(), " rows, ", references_file, " ", references.size()),
            "give files with a row for each other");
}

}  // namespace llama2zh
