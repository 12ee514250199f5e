#include "commands/compare_report.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "llama2zh/base/markup.h"
#include "llama2zh/base/text.h"
#include "llama2zh/plot/bars.h"

namespace llama2zh {
namespace {

struct Table {
  std::string title;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

// "-" for null: not measured.
std::string number(const ordered_json& value, const char* format) {
  if (value.is_null()) return "-";
  char text[64];
  std::snprintf(text, sizeof text, format, value.get<double>());
  return text;
}

std::string with_error(const ordered_json& row, const std::string& key,
                       const char* format = "%.4f") {
  std::string error = number(row[key + "_standard_error"], format);
  if (error[0] == '+') error.erase(0, 1);
  return cat(number(row[key], format), " ± ", error);
}

std::string percent_with_error(const ordered_json& row, const std::string& key) {
  return cat(number(100 * row[key].get<double>(), "%.2f"), " ± ",
             number(100 * row[key + "_standard_error"].get<double>(), "%.2f %%"));
}

Table model_table(const ordered_json& results) {
  Table table{"Models", {"", "A", "B"}, {}};
  const ordered_json &a = results["models"][0], &b = results["models"][1];
  const auto add = [&](const std::string& title, const auto& text) {
    table.rows.push_back({title, text(a), text(b)});
  };
  add("model", [](const ordered_json& m) { return m["model"].get<std::string>(); });
  add("parameters",
      [](const ordered_json& m) { return with_thousands(m["parameters"].get<int64_t>()); });
  add("weights", [](const ordered_json& m) { return human_bytes(m["bytes"].get<uint64_t>()); });
  add("bits a weight", [](const ordered_json& m) { return number(m["bits_per_weight"], "%.2f"); });
  add("vocabulary",
      [](const ordered_json& m) { return with_thousands(m["vocab_size"].get<int64_t>()); });
  add("prompt tokens/s", [](const ordered_json& m) { return number(m["prompt_tok_s"], "%.1f"); });
  add("answer tokens/s", [](const ordered_json& m) { return number(m["answer_tok_s"], "%.1f"); });
  return table;
}

Table text_table(const ordered_json& results) {
  Table table{"Texts",
              {"file", "characters", "perplexity A", "perplexity B", "bits/char A", "bits/char B",
               "change"},
              {}};
  for (const ordered_json& file : results["files"]) {
    const ordered_json &a = file["a"], &b = file["b"];
    const double change =
        b["bits_per_character"].get<double>() / a["bits_per_character"].get<double>() - 1;
    table.rows.push_back({file["file"].get<std::string>(),
                          with_thousands(a["characters"].get<int64_t>()),
                          with_error(a, "perplexity"), with_error(b, "perplexity"),
                          with_error(a, "bits_per_character"), with_error(b, "bits_per_character"),
                          number(100 * change, "%+.2f %%")});
  }
  return table;
}

Table distance_table(const ordered_json& results) {
  Table table{"Distance of B from A",
              {"file", "tokens", "nll/token, B - A", "KL(A || B), nats", "same likeliest token",
               "largest difference of a logit"},
              {}};
  for (const ordered_json& file : results["files"]) {
    const ordered_json& distance = file["distance"];
    if (distance.is_null()) continue;
    table.rows.push_back({file["file"].get<std::string>(),
                          with_thousands(distance["tokens"].get<int64_t>()),
                          with_error(distance, "nll_difference", "%+.5f"),
                          with_error(distance, "kl_divergence", "%.6f"),
                          percent_with_error(distance, "top1_agreement"),
                          number(distance["max_logit_difference"], "%.4f")});
  }
  return table;
}

Table answer_table(const ordered_json& results) {
  Table table{"Answers, greedy", {"prompt", "A", "B"}, {}};
  for (const ordered_json& answer : results["answers"]) {
    table.rows.push_back({answer["prompt"].get<std::string>(), answer["a"].get<std::string>(),
                          answer["b"].get<std::string>()});
  }
  return table;
}

std::vector<Table> tables_of(const ordered_json& results) {
  std::vector<Table> tables = {model_table(results)};
  for (Table table : {text_table(results), distance_table(results), answer_table(results)})
    if (!table.rows.empty()) tables.push_back(std::move(table));
  return tables;
}

std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "<br>";
    } else if (c == '|' || c == '\\' || c == '`' || c == '*' || c == '_' || c == '[') {
      out += '\\';
      out += c;
    } else {
      out += c == '<' ? std::string("&lt;") : c == '&' ? std::string("&amp;") : std::string(1, c);
    }
  }
  return out;
}

std::string html_table(const Table& table) {
  std::string out = cat("<h2>", escape_markup(table.title), "</h2>\n<table>\n<tr>");
  for (const std::string& cell : table.header) out += cat("<th>", escape_markup(cell), "</th>");
  out += "</tr>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += cat("<td>", escape_markup(cell), "</td>");
    out += "</tr>\n";
  }
  return out + "</table>\n";
}

// Of a path, for a plot; whole where nothing would be left.
std::string last_part(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  return name.empty() ? path : name;
}

double value_or_nan(const ordered_json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

// Two bars a file, one of each model.
std::vector<BarGroup> bars_of_files(const ordered_json& results, const char* key) {
  std::vector<BarGroup> groups;
  for (const ordered_json& file : results["files"])
    groups.push_back({last_part(file["file"].get<std::string>()),
                      {value_or_nan(file["a"][key]), value_or_nan(file["b"][key])}});
  return groups;
}

std::vector<BarGroup> bars_of_distance(const ordered_json& results) {
  std::vector<BarGroup> groups;
  for (const ordered_json& file : results["files"]) {
    if (!file["distance"].is_null())
      groups.push_back({last_part(file["file"].get<std::string>()),
                        {value_or_nan(file["distance"]["kl_divergence"])}});
  }
  return groups;
}

}  // namespace

std::vector<ComparePlot> compare_plots(const ordered_json& results) {
  const ordered_json &a = results["models"][0], &b = results["models"][1];
  const std::vector<std::string> names = {"A: " + last_part(a["model"].get<std::string>()),
                                          "B: " + last_part(b["model"].get<std::string>())};
  std::vector<ComparePlot> plots;
  const auto add = [&](const std::string& file, const std::string& title,
                       const std::vector<std::string>& series,
                       const std::vector<BarGroup>& groups) {
    if (!groups.empty()) plots.push_back({title, file, draw_bars(title, series, groups)});
  };
  add("bits.svg", "Bits per character (less is better)", names,
      bars_of_files(results, "bits_per_character"));
  if (a["vocab_size"] == b["vocab_size"])
    add("perplexity.svg", "Perplexity of a token (less is better)", names,
        bars_of_files(results, "perplexity"));
  add("kl.svg", "KL(A || B), nats a token (0: the same model)", {names[1]},
      bars_of_distance(results));
  constexpr double kGibi = 1 << 30;
  add("size.svg", "Weights, GiB", names,
      {{"", {a["bytes"].get<double>() / kGibi, b["bytes"].get<double>() / kGibi}}});
  if (!a["answer_tok_s"].is_null()) {
    const auto pair = [&](const char* label, const char* key) {
      return BarGroup{label, {value_or_nan(a[key]), value_or_nan(b[key])}};
    };
    add("speed.svg", "Tokens a second (more is better)", names,
        {pair("prompt", "prompt_tok_s"), pair("answer", "answer_tok_s")});
  }
  return plots;
}

std::string compare_markdown(const ordered_json& results, const std::vector<ComparePlot>& plots) {
  std::string out = "# Two models side by side\n";
  for (const ComparePlot& plot : plots) out += cat("\n![", plot.title, "](", plot.file, ")\n");
  for (const Table& table : tables_of(results)) {
    out += cat("\n## ", table.title, "\n\n|");
    for (const std::string& cell : table.header) out += cat(" ", markdown_cell(cell), " |");
    out += "\n|";
    for (size_t i = 0; i < table.header.size(); ++i) out += "---|";
    for (const auto& row : table.rows) {
      out += "\n|";
      for (const std::string& cell : row) out += cat(" ", markdown_cell(cell), " |");
    }
    out += "\n";
  }
  return out + cat("\n", results["note"].get<std::string>(), "\n");
}

std::string compare_html(const ordered_json& results, const std::vector<ComparePlot>& plots) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n"
      "<title>Two models side by side</title>\n<style>\n"
      "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;"
      "color:#111827;background:#fff}\n"
      "table{border-collapse:collapse;display:block;overflow-x:auto}\n"
      "th,td{border:1px solid #d1d5db;padding:.3rem .6rem;text-align:left;vertical-align:top;"
      "white-space:pre-wrap}\nth{background:#f3f4f6}\nsvg{max-width:100%;height:auto;margin:.5rem "
      "1rem .5rem 0}\n</style>\n</head>\n<body>\n<h1>Two models side by side</h1>\n";
  // A document inside another has no declaration of its own.
  for (const ComparePlot& plot : plots) out += plot.svg.substr(plot.svg.find("<svg"));
  for (const Table& table : tables_of(results)) out += html_table(table);
  return out +
         cat("<p>", escape_markup(results["note"].get<std::string>()), "</p>\n</body>\n</html>\n");
}

}  // namespace llama2zh
