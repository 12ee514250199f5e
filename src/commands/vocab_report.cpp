// llama2zh vocab report: what tokenizers make of the user's text, and what their vocabularies cost.
#include "commands/vocab_report.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <tuple>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {
namespace {

struct VocabReportOptions {
  std::vector<std::string> tokenizer;
  std::vector<std::string> file;
  std::vector<std::string> name;
  std::string field = "auto";
  std::string model;
  int64_t hidden_size = 0;
  bool tied = false;
  std::string output;
  bool json_output = false;
  static auto options() {
    using T = VocabReportOptions;
    return std::tuple(
        option("tokenizer", &T::tokenizer,
               "Tokenizers: .model files or folders. The first is what the others are compared "
               "with.",
               not_empty()),
        option("file", &T::file,
               "Text: .txt, or .jsonl and .json with a text a row; LABEL=FILE names a domain, to "
               "which several files may belong; else each file is one.",
               not_empty()),
        option("name", &T::name, "What the report calls the tokenizers; empty: by their paths."),
        option("field", &T::field, "JSON key of the text; auto takes input or text."),
        option("model", &T::model,
               "Model folder whose config.json says what a row of the vocabulary costs, and what "
               "the rest of the model does."),
        option("hidden_size", &T::hidden_size,
               "Instead of --model: the width of embedding and head. No speed-up is estimated "
               "then.",
               at_least(0)),
        option("tied", &T::tied, "With --hidden-size: embedding and head are one matrix."),
        option("output", &T::output,
               "Folder for vocab_report.json and vocab_report.md; empty: none is written."),
        option("json", &T::json_output, "Print the report as one JSON object."));
  }
};

VocabularyHost find_host(const VocabReportOptions& options) {
  if (options.model.empty()) {
    if (options.tied && options.hidden_size == 0)
      fail_usage("tied", "no model is named", "give --hidden-size too");
    return {.hidden_size = options.hidden_size, .tied = options.tied};
  }
  if (options.hidden_size > 0 || options.tied)
    fail_usage("model", "its config.json has the width already", "leave --hidden-size and --tied");
  return host_of(LlamaConfig::read(options.model));
}

// Two tokenizers of one file name are told apart by their folders.
std::string short_name(const std::vector<std::string>& paths, size_t index) {
  const auto last = [](std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return fs::path(path).filename().string();
  };
  for (size_t i = 0; i < paths.size(); ++i) {
    if (i != index && last(paths[i]) == last(paths[index])) return paths[index];
  }
  return last(paths[index]);
}

std::vector<ReportedTokenizer> name_tokenizers(const VocabReportOptions& options) {
  if (!options.name.empty() && options.name.size() != options.tokenizer.size()) {
    fail_usage("name",
               cat("there are ", options.name.size(), " names for ", options.tokenizer.size(),
                   " tokenizers"),
               "give one a tokenizer, in their order");
  }
  std::vector<ReportedTokenizer> result;
  for (size_t i = 0; i < options.tokenizer.size(); ++i) {
    result.push_back({options.name.empty() ? short_name(options.tokenizer, i) : options.name[i],
                      options.tokenizer[i],
                      "",
                      0,
                      {}});
  }
  return result;
}

std::vector<ReportedDomain> find_domains(const VocabReportOptions& options) {
  std::vector<ReportedDomain> domains;
  for (const std::string& text : options.file) {
    const size_t sign = fs::exists(text) ? std::string::npos : text.find('=');
    const bool labelled = sign != std::string::npos && sign > 0;
    const std::string file = labelled ? text.substr(sign + 1) : text;
    const std::string name = labelled ? text.substr(0, sign) : fs::path(file).filename().string();
    const std::vector<std::string> files = expand_files({file});
    auto same = std::find_if(domains.begin(), domains.end(),
                             [&](const ReportedDomain& domain) { return domain.name == name; });
    if (same == domains.end()) same = domains.insert(domains.end(), {name, {}});
    same->files.insert(same->files.end(), files.begin(), files.end());
  }
  return domains;
}

CommandSpec vocab_report_spec() {
  return {.verb = "vocab report",
          .summary =
              "Tokenizers side by side on your text: characters per token by language and domain, "
              "byte fallback, characters covered, pieces without a use, and what each costs.",
          .examples = {"llama2zh vocab report --tokenizer llama-2-7b merged --file zh.txt en.txt",
                       "llama2zh vocab report --tokenizer a.model b.model --name old new --file "
                       "medical=cblue.jsonl news=zh.txt --model llama-2-7b --output report"},
          .required = {"tokenizer", "file"}};
}

}  // namespace

int run_vocab_report(const std::vector<std::string>& args) {
  VocabReportOptions options;
  const OptionTable table = bind_options(options);
  if (parse_command_line(vocab_report_spec(), table, args).help) return 0;

  const VocabularyHost host = find_host(options);
  std::vector<ReportedTokenizer> tokenizers = name_tokenizers(options);
  const std::vector<ReportedDomain> domains = find_domains(options);
  const ordered_json report =
      make_vocab_report(std::move(tokenizers), domains, options.field, host, "--file");
  if (!options.output.empty()) {
    fs::create_directories(options.output);
    write_vocab_report(options.output, report);
  }
  std::fputs(
      options.json_output ? (report.dump() + "\n").c_str() : vocab_report_markdown(report).c_str(),
      stdout);
  return 0;
}

}  // namespace llama2zh
