// llama2zh extend-vocab: merges a tokenizer's pieces into the base's and, given the model, grows its embedding and head.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/staged_output.h"
#include "commands/verbs.h"
#include "commands/vocab_report.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/model/load.h"
#include "llama2zh/model/resize.h"
#include "llama2zh/tokenizer/vocabulary.h"

namespace llama2zh {
namespace {

struct ExtendVocabOptions {
  std::string tokenizer;
  std::string extension;
  std::string output;
  std::string model;
  std::string init = "subpiece";
  std::vector<std::string> report_text;
  int64_t seed = 100;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = ExtendVocabOptions;
    return std::tuple(
        option("tokenizer", &T::tokenizer,
               "Base tokenizer: a .model file or a folder with tokenizer.model."),
        option("extension", &T::extension, "The .model whose pieces are added."),
        option("output", &T::output,
               "Folder to write: the merged tokenizer and, with --model, the resized model."),
        option("model", &T::model, "Model folder to resize; its rows must fit the base tokenizer."),
        option("init", &T::init,
               "New rows: subpiece (mean of the rows of the old pieces the text had), mean (of all "
               "rows) or normal (random, the original's way).",
               one_of({"subpiece", "mean", "normal"})),
        option(
            "report_text", &T::report_text,
            "Text files (as `vocab report --file`) to compare both tokenizers on; the report goes "
            "into the output folder too, as vocab_report.json and vocab_report.md."),
        option("seed", &T::seed, "Seed of mean and normal.", at_least(0)),
        option("overwrite", &T::overwrite, "Replace the output folder if it is not empty."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

// The rows of `name` grown; every other weight as it is.
at::Tensor resized_weight(const std::string& name, const TensorSource& source,
                          const std::vector<std::vector<TokenId>>& parts,
                          const ExtendVocabOptions& options, double initializer_range) {
  throw_if_stopped();
  at::Tensor old = source.load(name);
  const bool is_head = name == "lm_head.weight";
  if (!is_head && name != "model.embed_tokens.weight") return old;
  const uint64_t seed = static_cast<uint64_t>(options.seed) * 2 + (is_head ? 1 : 0);
  return grow_rows(old, parts, parse_row_init(options.init), initializer_range, seed);
}

void write_resized_model(const fs::path& folder, const OpenModel& model, const Tokenizer& base,
                         const Tokenizer& merged, const std::vector<std::string>& added,
                         const ExtendVocabOptions& options) {
  at::NoGradGuard no_grad;
  LlamaConfig config = model.config;
  config.vocab_size = merged.vocab_size();
  const std::vector<std::vector<TokenId>> parts = sub_pieces(base, added);
  const at::ScalarType dtype = model.source->require("model.embed_tokens.weight").dtype;
  save_model(
      folder, config,
      [&](const std::string& name) {
        return resized_weight(name, *model.source, parts, options, config.initializer_range);
      },
      &merged,
      SaveOptions{.dtype = dtype,
                  .max_shard_bytes = SaveOptions{}.max_shard_bytes,
                  .template_name = merged.template_name()});
}

// `measured`: the report of make_vocab_report() on the texts; null without any.
ordered_json report_json(const VocabularyReport& report, const std::string& sha256,
                         const ordered_json& measured) {
  ordered_json out = {{"base", report.base_size},        {"extension", report.extension_size},
                      {"merged", report.merged_size},    {"added", report.added},
                      {"duplicates", report.duplicates}, {"unreachable", report.unreachable},
                      {"displaced", report.displaced},   {"tokenizer_sha256", sha256},
                      {"texts", ordered_json::array()}};
  if (measured.is_null()) return out;
  const ordered_json &before = measured["tokenizers"][0], &after = measured["tokenizers"][1];
  for (const auto& [name, count] : before["domains"].items()) {
    const ordered_json& now = after["domains"][name];
    out["texts"].push_back({{"file", name},
                            {"characters", count["characters"]},
                            {"tokens_before", count["tokens"]},
                            {"tokens_after", now["tokens"]},
                            {"characters_per_token_before", count["characters_per_token"]},
                            {"characters_per_token_after", now["characters_per_token"]}});
  }
  out["vocab_report"] = measured;
  return out;
}

// A text is called by its file's name; of two with one name, the second by its path.
std::string unique_name(const std::string& file, const std::vector<ReportedDomain>& domains) {
  const std::string name = fs::path(file).filename().string();
  const bool taken = std::any_of(domains.begin(), domains.end(),
                                 [&](const ReportedDomain& domain) { return domain.name == name; });
  return taken ? file : name;
}

std::string sample_of(const std::vector<std::string>& pieces) {
  constexpr size_t kShown = 10;
  const std::vector<std::string> first(
      pieces.begin(),
      pieces.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, pieces.size())));
  return pieces.empty() ? "" : cat(" (", join(first, " "), pieces.size() > kShown ? " ...)" : ")");
}

void print_report(const ordered_json& report, const VocabularyReport& vocabulary) {
  std::string out = cat(
      "vocabulary   ", vocabulary.base_size, " + ", vocabulary.extension_size, " -> ",
      vocabulary.merged_size, "\n", "added        ", vocabulary.added, "\n", "duplicates   ",
      vocabulary.duplicates, "\n", "unreachable  ", vocabulary.unreachable.size(),
      " added pieces that their own text does not encode to", sample_of(vocabulary.unreachable),
      "\n", "displaced    ", vocabulary.displaced.size(),
      " old pieces no longer produced from their own text", sample_of(vocabulary.displaced), "\n");
  char line[256];
  for (const auto& row : report["texts"]) {
    std::snprintf(line, sizeof line, "chars/token  %.3f -> %.3f  ",
                  row["characters_per_token_before"].get<double>(),
                  row["characters_per_token_after"].get<double>());
    out += cat(line, row["file"].get<std::string>(), "\n");
  }
  if (report.contains("vocab_report")) out += "\n" + vocab_report_markdown(report["vocab_report"]);
  std::fputs(out.c_str(), stdout);
}

CommandSpec extend_vocab_spec() {
  return {.verb = "extend-vocab",
          .summary =
              "Appends the pieces of one tokenizer to another (file order, score 0, duplicates "
              "dropped) and resizes the model.",
          .examples = {"llama2zh extend-vocab --tokenizer llama-2-7b --extension chinese_sp.model "
                       "--model llama-2-7b --output llama-2-7b-zh --report-text zh.txt en.txt"},
          .required = {"tokenizer", "extension", "output"}};
}

Tokenizer load_plain_tokenizer(const std::string& path) {
  Tokenizer base = load_tokenizer(path);
  if (base.kind() != TokenizerKind::kSentencepiece) {
    fail_usage(path,
               "it is a byte-level BPE tokenizer; only a sentencepiece vocabulary can be extended");
  }
  if (base.vocab_size() != base.model_size()) {
    fail_data(path,
              "the folder has added tokens behind the sentencepiece pieces, whose ids new pieces "
              "would take",
              "pass the plain tokenizer.model");
  }
  return base;
}

// Both tokenizers on --report-text, as `vocab report` has it, into the folder too. Null without texts.
ordered_json measure_texts(const fs::path& folder, const ExtendVocabOptions& options,
                           const OpenModel& model) {
  if (options.report_text.empty()) return nullptr;
  std::vector<ReportedDomain> domains;
  for (const std::string& file : options.report_text)
    domains.push_back({unique_name(file, domains), {file}});
  const VocabularyHost host = model.source ? host_of(model.config) : VocabularyHost{};
  ordered_json report = make_vocab_report(
      {{"before", options.tokenizer, "", 0, {}}, {"after", folder.string(), "", 0, {}}}, domains,
      "auto", host, "--report-text");
  report["tokenizers"][1]["path"] = options.output;
  write_vocab_report(folder, report);
  return report;
}

// The merged tokenizer in `folder`: tokenizer_config and the rest stay the base's; only
// tokenizer.model is new.
Tokenizer write_merged_tokenizer(const fs::path& folder, const Tokenizer& base,
                                 const VocabularyMerge& merge) {
  base.save(folder, base.template_name());
  write_file_atomic(folder / "tokenizer.model", merge.model.serialize());
  return Tokenizer::load(folder);
}

std::vector<NamedInput> extend_vocab_inputs(const ExtendVocabOptions& options) {
  std::vector<NamedInput> inputs = {{"--tokenizer", options.tokenizer},
                                    {"--extension", options.extension},
                                    {"--model", options.model}};
  for (const std::string& file : options.report_text) inputs.push_back({"--report-text", file});
  return inputs;
}

}  // namespace

int run_extend_vocab(const std::vector<std::string>& args) {
  ExtendVocabOptions options;
  const OptionTable table = bind_options(options);
  if (parse_command_line(extend_vocab_spec(), table, args).help) return 0;

  const Tokenizer base = load_plain_tokenizer(options.tokenizer);
  const VocabularyMerge merge =
      merge_vocabulary(*base.sentencepiece(), ModelProto::read(options.extension));
  OpenModel model;
  if (!options.model.empty()) {
    model = open_model(options.model);
    refuse_quantized(model, "its vocabulary can't be extended");
    check_vocabulary(base, model.config, options.model);
  }

  StagedFolder folder =
      stage_output(options.output, options.overwrite, extend_vocab_inputs(options));
  const Tokenizer merged = write_merged_tokenizer(folder.path(), base, merge);
  const ordered_json measured = measure_texts(folder.path(), options, model);
  if (model.source) {
    write_resized_model(folder.path(), model, base, merged, merge.added, options);
  } else {
    write_manifest(folder.path(), Manifest{.kind = "tokenizer",
                                           .tokenizer_sha256 = merged.fingerprint(),
                                           .vocab_size = merged.vocab_size()});
  }
  const VocabularyReport vocabulary = report_merge(base, merged, merge);
  throw_if_stopped();
  folder.commit();
  const ordered_json report = report_json(vocabulary, merged.fingerprint(), measured);
  if (options.json_output) {
    std::puts(report.dump().c_str());
  } else {
    print_report(report, vocabulary);
  }
  return 0;
}

}  // namespace llama2zh
