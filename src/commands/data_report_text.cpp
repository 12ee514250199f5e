// The report of training data as JSON and as text.
#include <algorithm>
#include <cstdio>

#include "commands/data_report.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

ordered_json named_json(const NamedRowsCount& rows) {
  return {{"rows", rows.count}, {"first", rows.places}};
}

double share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : rounded(static_cast<double>(part) / static_cast<double>(whole), 4);
}

ordered_json lengths_json(const SetReport& set) {
  ordered_json out;
  for (const auto& [name, at] : {std::pair<const char*, double>{"min", 0},
                                 {"median", 0.5},
                                 {"p90", 0.9},
                                 {"p95", 0.95},
                                 {"p99", 0.99},
                                 {"max", 1}})
    out[name] = set.length_at(at);
  // Powers of two: short, and the same for every set.
  ordered_json histogram = ordered_json::array();
  auto at = set.lengths.begin();
  for (int64_t below = 2; at != set.lengths.end(); below *= 2) {
    int64_t rows = 0;
    for (; at != set.lengths.end() && at->first < below; ++at) rows += at->second;
    histogram.push_back({{"from", below / 2}, {"below", below}, {"rows", rows}});
  }
  out["histogram"] = histogram;
  return out;
}

ordered_json stores_json(const SetReport& set) {
  ordered_json out = ordered_json::array();
  for (const StoreSetName& store : set.stores)
    out.push_back({{"folder", store.folder}, {"set", store.set}});
  return out;
}

ordered_json set_json(const SetReport& set, bool is_test) {
  const LetterCounts& letters = set.letters;
  const int64_t all = letters.han + letters.latin + letters.other;
  ordered_json out = {{"name", set.name},
                      {"files", set.files},
                      {"stores", stores_json(set)},
                      {"rows", set.rows},
                      {"blank", set.blank},
                      {"filtered", set.filtered},
                      {"deduplicated", set.deduplicated},
                      {"bad", named_json(set.bad)},
                      {"template_errors", named_json(set.template_errors)},
                      {"duplicates", set.looked_for_duplicates ? named_json(set.duplicates)
                                                               : ordered_json(nullptr)},
                      {"overlong",
                       {{"dropped", named_json(set.dropped)},
                        {"cut", set.cut},
                        {"split", set.split},
                        {"tokens_cut", set.tokens_cut}}},
                      {"tokens", set.tokens},
                      {"supervised", set.supervised},
                      {"supervised_share", share(set.supervised, set.tokens)},
                      {"lengths", lengths_json(set)},
                      {"letters",
                       {{"zh", share(letters.han, all)},
                        {"en", share(letters.latin, all)},
                        {"other", share(letters.other, all)}}},
                      {"languages", ordered_json::object()},
                      {"messages", ordered_json::object()}};
  for (size_t i = 0; i < kLanguageNames.size(); ++i)
    out["languages"][std::string(kLanguageNames[i])] = set.languages[i];
  for (size_t i = 0; i < set.messages.size(); ++i)
    out["messages"][std::string(role_name(static_cast<Role>(i)))] = set.messages[i];
  if (!is_test) return out;
  out["in_training"] = named_json(set.in_training);
  out["overlapping"] = named_json(set.overlapping);
  out["too_short_for_ngrams"] = set.too_short_for_grams;
  return out;
}

std::string number(const ordered_json& value) { return with_thousands(value.get<int64_t>()); }

std::string percent(const ordered_json& value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %%", 100 * value.get<double>());
  return text;
}

class Lines {
 public:
  void add(const std::string& name, const std::string& value) {
    std::string padded = name;
    padded.resize(std::max<size_t>(20, name.size() + 1), ' ');
    out_ += cat("  ", padded, value, "\n");
  }
  void add_named(const std::string& name, const ordered_json& rows) {
    if (rows["rows"] == 0) return;
    add(name, number(rows["rows"]));
    for (const auto& place : rows["first"]) out_ += cat("    ", place.get<std::string>(), "\n");
  }
  const std::string& text() const { return out_; }

 private:
  std::string out_;
};

std::string of_each(const ordered_json& values, bool shares) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : values.items())
    parts.push_back(cat(name, " ", shares ? percent(value) : number(value)));
  return join(parts, ", ");
}

std::string set_text(const ordered_json& set) {
  Lines lines;
  lines.add("rows", number(set["rows"]));
  for (const char* key : {"blank", "filtered", "deduplicated"})
    if (set[key] != 0) lines.add(key, number(set[key]));
  lines.add_named("bad rows", set["bad"]);
  lines.add_named("template errors", set["template_errors"]);
  if (set["duplicates"].is_null())
    lines.add("duplicates", "not looked for");
  else
    lines.add_named("duplicates", set["duplicates"]);
  const ordered_json& overlong = set["overlong"];
  lines.add_named("over-long, dropped", overlong["dropped"]);
  if (overlong["cut"] != 0) lines.add("over-long, cut", number(overlong["cut"]));
  if (overlong["tokens_cut"] != 0) lines.add("tokens lost by that", number(overlong["tokens_cut"]));
  if (overlong["split"] != 0) lines.add("over several blocks", number(overlong["split"]));
  lines.add("tokens",
            cat(number(set["tokens"]), ", supervised ", percent(set["supervised_share"])));
  ordered_json lengths = set["lengths"];
  lengths.erase("histogram");
  lines.add("tokens in a row", of_each(lengths, false));
  lines.add("letters", of_each(set["letters"], true));
  lines.add("rows in", of_each(set["languages"], false));
  lines.add("messages", of_each(set["messages"], false));
  if (set.contains("in_training")) {
    lines.add_named("in training, whole", set["in_training"]);
    lines.add_named("in training, n-grams", set["overlapping"]);
    if (set["too_short_for_ngrams"] != 0)
      lines.add("too short for n-grams", number(set["too_short_for_ngrams"]));
  }
  return cat(set["name"].get<std::string>(), ":\n", lines.text());
}

}  // namespace

ordered_json data_report_json(const DataReport& report, const DataConfig& config,
                              const DataReportOptions& options) {
  ordered_json out = {{"train", set_json(report.train, false)},
                      {"test", ordered_json::array()},
                      {"settings",
                       {{"template", config.chat_template},
                        {"block_size", config.block_size},
                        {"overlong", config.overlong},
                        {"ngram", options.gram_size},
                        {"ngram_share", options.gram_share}}}};
  for (const SetReport& set : report.test) out["test"].push_back(set_json(set, true));
  return out;
}

std::string data_report_text(const ordered_json& report) {
  std::string out = set_text(report["train"]);
  for (const auto& set : report["test"]) out += set_text(set);
  const ordered_json& problems = report["problems"];
  out += problems.empty() ? "no problem found\n" : "problems:\n";
  for (const auto& problem : problems) out += cat("  ", problem.get<std::string>(), "\n");
  return out;
}

std::vector<std::string> data_problems(const DataReport& report) {
  std::vector<std::string> problems;
  const auto add = [&](const SetReport& set, int64_t count, const char* what) {
    if (count > 0) problems.push_back(cat(set.name, ": ", with_thousands(count), " ", what));
  };
  const auto add_set = [&](const SetReport& set) {
    if (set.rows == 0) problems.push_back(cat(set.name, ": no row to use"));
    add(set, set.bad.count, "bad rows");
    add(set, set.template_errors.count, "rows that the template can't encode or learn from");
    add(set, set.duplicates.count, "duplicates of earlier rows");
    add(set, set.dropped.count, "rows dropped for their length");
    add(set, set.in_training.count, "rows that training has too");
    add(set, set.overlapping.count, "rows that share n-grams with training rows");
  };
  add_set(report.train);
  for (const SetReport& set : report.test) add_set(set);
  return problems;
}

}  // namespace llama2zh
