// Scores of answers: row by row, their means, and what is printed of them.
#include "commands/text_scoring.h"

#include <cstdio>
#include <memory>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

ordered_json row_as_json(size_t index, const AnswerText& prediction, const AnswerText& reference,
                         const ScoredText& scored) {
  ordered_json row = {
      {"index", index}, {"prediction", prediction.text}, {"reference", reference.text}};
  if (!reference.group.empty()) row["group"] = reference.group;
  for (size_t i = 0; i < kTextScores; ++i) row[kTextScoreNames[i]] = scored.scores[i];
  return row;
}

ordered_json summary_as_json(const ScoreSummary& summary) {
  ordered_json out = {{"rows", summary.rows()}};
  const TextScores means = summary.means(), errors = summary.standard_errors();
  for (size_t i = 0; i < kTextScores; ++i) out[kTextScoreNames[i]] = means[i];
  out["corpus_chrf"] = summary.corpus_chrf();
  for (size_t i = 0; summary.rows() > 1 && i < kTextScores; ++i)
    out["standard_errors"][kTextScoreNames[i]] = errors[i];
  return out;
}

void print_summary(const ScoreSummary& summary, const std::string& name) {
  std::printf("%8s", with_thousands(summary.rows()).c_str());
  for (const double mean : summary.means()) std::printf(" %11.4f", mean);
  std::printf(" %11.4f  %s\n", summary.corpus_chrf(), name.c_str());
  if (summary.rows() < 2) return;
  std::printf("%8s", "");
  for (const double error : summary.standard_errors())
    std::printf(" %12s", cat("±", rounded(error, 4)).c_str());
  std::printf("\n");
}

}  // namespace

WordSegmenter ScoringOptions::segmenter() const {
  WordSegmenter segmenter;
  if (!dictionary.empty()) segmenter.add_dictionary(dictionary);
  return segmenter;
}

AnswerScores score_answers(const ScoringOptions& options,
                           const std::vector<AnswerText>& predictions,
                           const std::vector<AnswerText>& references, const fs::path& rows_file) {
  const WordSegmenter segmenter = options.segmenter();
  const auto file = rows_file.empty() ? nullptr : std::make_unique<AtomicFile>(rows_file);
  AnswerScores scores;
  Progress progress("scores", static_cast<int64_t>(references.size()), "row");
  for (size_t i = 0; i < references.size(); ++i) {
    const std::string &predicted = predictions[i].text, &wanted = references[i].text;
    const ScoredText scored = score_text(segmenter, predicted, wanted);
    scores.all.add(scored);
    if (!options.by.empty()) scores.groups[references[i].group].add(scored);
    scores.blank += is_blank_text(predicted);
    scores.failed += predictions[i].failed;
    if (file != nullptr) {
      ordered_json row = row_as_json(i, predictions[i], references[i], scored);
      if (options.words) {
        row["prediction_words"] = segmenter.cut(predicted);
        row["reference_words"] = segmenter.cut(wanted);
      }
      file->write(row.dump() + "\n");
    }
    progress.update(static_cast<int64_t>(i) + 1);
    throw_if_stopped();
  }
  if (file != nullptr) file->commit();
  progress.finish();
  return scores;
}

void report_scores(const ScoringOptions& options, const AnswerScores& scores, ordered_json head) {
  if (scores.blank > 0) {
    log_warning(cat(scores.blank, " of ", scores.all.rows(), " predictions are blank",
                    scores.failed > 0 ? cat(", ", scores.failed, " for want of an answer") : "",
                    ": they count as wrong"));
  }
  if (options.json_output) {
    head.update(summary_as_json(scores.all));
    head["blank_predictions"] = scores.blank;
    head["failed_rows"] = scores.failed;
    head["words"] = "jieba 0.42.1, default mode";
    head["dictionary"] =
        options.dictionary.empty()
            ? ordered_json(nullptr)
            : ordered_json(cat(options.dictionary, " xxh64:", xxh64_file(options.dictionary)));
    head["chrf_signature"] = "nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no";
    for (const auto& [name, summary] : scores.groups)
      head["groups"][name] = summary_as_json(summary);
    std::puts(head.dump().c_str());
    return;
  }
  std::printf("%8s", "rows");
  for (const char* name : kTextScoreNames) std::printf(" %11s", name);
  std::printf(" %11s\n", "corpus chrf");
  for (const auto& [name, summary] : scores.groups) print_summary(summary, name);
  print_summary(scores.all, scores.groups.empty() ? "" : "all");
}

void check_rows_file(const std::string& option, const std::string& file, bool overwrite,
                     const std::vector<std::string>& inputs) {
  if (file.empty() || !fs::exists(file)) return;
  for (const std::string& input : inputs) {
    if (fs::exists(input) && fs::equivalent(file, input))
      fail_usage(option, cat(file, " is one of the files that are read"), "choose another name");
  }
  if (!overwrite)
    fail_usage(file, "the file exists already", "choose another name or pass --overwrite");
}

}  // namespace llama2zh
