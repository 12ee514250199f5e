// The report of tokenizers as JSON and Markdown.
//
// Speed-up: generating a token reads every weight once but the embedding, of which it reads one row, so
// the time for a text goes with tokens * (body + vocabulary * hidden). The same count is the arithmetic
// of a forward pass without attention.
#include <algorithm>
#include <cstdio>

#include "commands/vocab_report.h"
#include "llama2zh/base/text.h"
#include "llama2zh/tokenizer/character_tables.h"

namespace llama2zh {
namespace {

constexpr size_t kShownPieces = 20;

ordered_json count_json(const TokenCount& count) {
  return {{"lines", count.lines},
          {"characters", count.characters},
          {"bytes", count.bytes},
          {"tokens", count.tokens},
          {"characters_per_token", rounded(count.characters_per_token(), 4)},
          {"byte_tokens", count.byte_tokens},
          {"byte_fallback_rate", rounded(count.byte_rate(), 6)}};
}

ordered_json by_language(const TokenizerMeasure& measure) {
  ordered_json out;
  for (size_t i = 0; i < kLanguageNames.size(); ++i)
    out[std::string(kLanguageNames[i])] = count_json(measure.total(static_cast<Language>(i)));
  return out;
}

ordered_json by_domain(const TokenizerMeasure& measure, const std::vector<std::string>& domains) {
  ordered_json out;
  for (size_t i = 0; i < domains.size(); ++i) {
    TokenCount sum;
    for (const TokenCount& count : measure.domains[i]) sum += count;
    out[domains[i]] = count_json(sum);
  }
  return out;
}

ordered_json coverage_json(const TokenizerMeasure& measure) {
  ordered_json out;
  for (size_t i = 0; i < character_tables().size(); ++i) {
    const CharacterTable& table = character_tables()[i];
    const size_t size = table.characters.size();
    out[table.name] = {
        {"meaning", table.meaning},
        {"characters", size},
        {"covered", measure.coverage[i]},
        {"share",
         rounded(static_cast<double>(measure.coverage[i]) / static_cast<double>(size), 4)}};
  }
  return out;
}

ordered_json changed_json(const ChangedEncodings& changed) {
  ordered_json out = {{"lines", ordered_json::object()},
                      {"displaced", changed.displaced.size()},
                      {"displaced_pieces", changed.displaced},
                      {"new_pieces_in_english", ordered_json::array()}};
  for (size_t i = 0; i < kLanguageNames.size(); ++i)
    out["lines"][std::string(kLanguageNames[i])] = {{"lines", changed.lines[i]},
                                                    {"changed", changed.changed[i]}};
  for (const auto& [piece, uses] : changed.new_in_english)
    out["new_pieces_in_english"].push_back({{"piece", piece}, {"uses", uses}});
  return out;
}

ordered_json cost_json(const ReportedTokenizer& one, const ReportedTokenizer& first,
                       const VocabularyHost& host) {
  const int64_t matrices = host.tied ? 1 : 2;
  const int64_t added = (one.vocab_size - first.vocab_size) * host.hidden_size * matrices;
  ordered_json out = {
      {"parameters", one.vocab_size * host.hidden_size * matrices},
      {"parameters_added", added},
      {"bytes_added", added * host.bytes_per_parameter},
  };
  if (host.body_parameters == 0) return out;
  const auto work = [&](const ReportedTokenizer& tokenizer) {
    return static_cast<double>(tokenizer.measure.total().tokens) *
           static_cast<double>(host.body_parameters + tokenizer.vocab_size * host.hidden_size);
  };
  out["expected_speed_up"] = rounded(work(first) / work(one), 4);
  return out;
}

// --- Markdown

std::string cell(const ordered_json& value) {
  if (value.is_number_integer()) return with_thousands(value.get<int64_t>());
  if (value.is_number()) return cat(value.get<double>());
  return value.get<std::string>();
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %%", 100 * share);
  return text;
}

// A vertical line in a name would end its cell.
std::string escaped(const std::string& name) {
  std::string out;
  for (const char c : name) out += c == '|' ? "\\|" : std::string(1, c);
  return out;
}

class MarkdownTable {
 public:
  MarkdownTable(const std::string& corner, const ordered_json& tokenizers)
      : tokenizers_(&tokenizers) {
    out_ = cat("\n| ", corner, " |");
    for (const auto& one : tokenizers) out_ += cat(" ", escaped(one["name"]), " |");
    out_ += "\n|---|";
    for (size_t i = 0; i < tokenizers.size(); ++i) out_ += "---:|";
    out_ += "\n";
  }
  template <typename CellOf>
  void row(const std::string& name, const CellOf& cell_of) {
    out_ += cat("| ", escaped(name), " |");
    for (const auto& one : *tokenizers_) out_ += cat(" ", cell_of(one), " |");
    out_ += "\n";
  }
  const std::string& text() const { return out_; }

 private:
  const ordered_json* tokenizers_;
  std::string out_;
};

std::string text_table(const ordered_json& tokenizers) {
  MarkdownTable table("characters per token (byte fallback)", tokenizers);
  const auto add = [&](const std::string& name, const auto& find) {
    table.row(name, [&](const ordered_json& one) -> std::string {
      const ordered_json& count = find(one);
      if (count["tokens"] == 0) return "-";
      char text[64];
      std::snprintf(text, sizeof text, "%.3f (%.2f %%)",
                    count["characters_per_token"].get<double>(),
                    100 * count["byte_fallback_rate"].get<double>());
      return text;
    });
  };
  const auto all = [](const ordered_json& one) -> const ordered_json& { return one["total"]; };
  add("all text", all);
  for (const std::string group : {"languages", "domains"}) {
    for (const auto& [name, unused] : tokenizers[0][group].items())
      add(group == "languages" ? cat(name, " lines") : name,
          [&, key = name](const ordered_json& one) -> const ordered_json& {
            return one[group][key];
          });
  }
  table.row("tokens", [&](const ordered_json& one) { return cell(one["total"]["tokens"]); });
  return table.text();
}

std::string piece_table(const ordered_json& tokenizers) {
  MarkdownTable table("vocabulary", tokenizers);
  table.row("pieces", [](const ordered_json& one) { return cell(one["vocab_size"]); });
  for (const auto& [name, value] : tokenizers[0]["coverage"].items())
    table.row(cat(name, ", ", cell(value["characters"]), " ", cell(value["meaning"])),
              [&, key = name](const ordered_json& one) {
                return percent(one["coverage"][key]["share"].get<double>());
              });
  table.row("unreachable pieces", [](const ordered_json& one) { return cell(one["unreachable"]); });
  table.row("pieces not used by this text",
            [](const ordered_json& one) { return cell(one["dead"]); });
  const auto changed = [](const ordered_json& one, const auto& find) -> std::string {
    return one.contains("changed") ? find(one["changed"]) : "-";
  };
  for (const std::string_view language : kLanguageNames)
    table.row(cat(language, " lines encoded otherwise"), [&](const ordered_json& one) {
      return changed(one, [&](const ordered_json& value) {
        const ordered_json& lines = value["lines"][std::string(language)];
        return cat(cell(lines["changed"]), " of ", cell(lines["lines"]));
      });
    });
  table.row("old pieces displaced", [&](const ordered_json& one) {
    return changed(one, [](const ordered_json& value) { return cell(value["displaced"]); });
  });
  return table.text();
}

std::string cost_table(const ordered_json& report) {
  const ordered_json& tokenizers = report["tokenizers"];
  if (!tokenizers[0].contains("cost")) return "";
  MarkdownTable table("embedding and head", tokenizers);
  table.row("parameters", [](const ordered_json& one) { return cell(one["cost"]["parameters"]); });
  table.row("added", [](const ordered_json& one) { return cell(one["cost"]["parameters_added"]); });
  table.row("bytes added",
            [](const ordered_json& one) { return cell(one["cost"]["bytes_added"]); });
  if (!tokenizers[0]["cost"].contains("expected_speed_up")) return table.text();
  table.row("expected speed-up",
            [](const ordered_json& one) { return cell(one["cost"]["expected_speed_up"]); });
  return cat(table.text(), "\nSpeed-up: ", report["speed_up_formula"].get<std::string>(), ".\n");
}

std::string piece_list(const ordered_json& tokenizers) {
  std::string out;
  const auto add = [&out](const std::string& title, const std::vector<std::string>& pieces) {
    if (pieces.empty()) return;
    const std::vector<std::string> shown(
        pieces.begin(),
        pieces.begin() + static_cast<std::ptrdiff_t>(std::min(kShownPieces, pieces.size())));
    out +=
        cat("\n", title, ": ", join(shown, " "), pieces.size() > shown.size() ? " ..." : "", "\n");
  };
  for (const auto& one : tokenizers) {
    const auto name = one["name"].get<std::string>();
    add(cat(name, ", unreachable"), one["unreachable_pieces"]);
    add(cat(name, ", not used by this text"), one["dead_pieces"]);
    if (!one.contains("changed")) continue;
    add(cat(name, ", displaced"), one["changed"]["displaced_pieces"]);
    std::vector<std::string> pieces;
    for (const auto& piece : one["changed"]["new_pieces_in_english"])
      pieces.push_back(cat(cell(piece["piece"]), " x", cell(piece["uses"])));
    add(cat(name, ", new pieces in English lines"), pieces);
  }
  return out;
}

}  // namespace

ordered_json vocab_report_json(const std::vector<ReportedTokenizer>& tokenizers,
                               const std::vector<std::string>& domains,
                               const VocabularyHost& host) {
  ordered_json out = {{"tokenizers", ordered_json::array()}};
  for (const ReportedTokenizer& one : tokenizers) {
    const TokenizerMeasure& measure = one.measure;
    ordered_json row = {{"name", one.name},
                        {"path", one.path},
                        {"sha256", one.sha256},
                        {"vocab_size", one.vocab_size},
                        {"total", count_json(measure.total())},
                        {"languages", by_language(measure)},
                        {"domains", by_domain(measure, domains)},
                        {"coverage", coverage_json(measure)},
                        {"text_pieces", measure.text_pieces},
                        {"unreachable", measure.unreachable.size()},
                        {"unreachable_pieces", measure.unreachable},
                        {"dead", measure.dead.size()},
                        {"dead_pieces", measure.dead}};
    if (&one != &tokenizers[0]) row["changed"] = changed_json(measure.changed);
    if (host.hidden_size > 0) row["cost"] = cost_json(one, tokenizers[0], host);
    out["tokenizers"].push_back(std::move(row));
  }
  if (host.body_parameters > 0) {
    out["body_parameters"] = host.body_parameters;
    out["speed_up_formula"] =
        "tokens * (body parameters + pieces * hidden size) of the first tokenizer, divided by the "
        "same of this one, on this text";
  }
  return out;
}

std::string vocab_report_markdown(const ordered_json& report) {
  const ordered_json& tokenizers = report["tokenizers"];
  return cat("# Tokenizers side by side\n", text_table(tokenizers), piece_table(tokenizers),
             cost_table(report), piece_list(tokenizers));
}

}  // namespace llama2zh
