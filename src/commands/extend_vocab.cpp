// llama2zh extend-vocab: merges a tokenizer's pieces into the base's and, given the model, grows its embedding and head.
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/staged_output.h"
#include "commands/verbs.h"
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
        option("report_text", &T::report_text,
               "Text files for characters per token before and after."),
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

ordered_json report_json(const VocabularyReport& report, const std::vector<CompressionRow>& rows,
                         const std::string& sha256) {
  ordered_json out = {{"base", report.base_size},        {"extension", report.extension_size},
                      {"merged", report.merged_size},    {"added", report.added},
                      {"duplicates", report.duplicates}, {"unreachable", report.unreachable},
                      {"displaced", report.displaced},   {"tokenizer_sha256", sha256},
                      {"texts", ordered_json::array()}};
  for (const CompressionRow& row : rows) {
    out["texts"].push_back({{"file", row.name},
                            {"characters", row.base.characters},
                            {"tokens_before", row.base.tokens},
                            {"tokens_after", row.merged.tokens},
                            {"characters_per_token_before", row.base.characters_per_token()},
                            {"characters_per_token_after", row.merged.characters_per_token()}});
  }
  return out;
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
      " added pieces that no text encodes to", sample_of(vocabulary.unreachable), "\n",
      "displaced    ", vocabulary.displaced.size(),
      " old pieces no longer produced from their own text", sample_of(vocabulary.displaced), "\n");
  char line[256];
  for (const auto& row : report["texts"]) {
    std::snprintf(line, sizeof line, "chars/token  %.3f -> %.3f  ",
                  row["characters_per_token_before"].get<double>(),
                  row["characters_per_token_after"].get<double>());
    out += cat(line, row["file"].get<std::string>(), "\n");
  }
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

std::vector<CompressionRow> measure_texts(const Tokenizer& base, const Tokenizer& merged,
                                          const std::vector<std::string>& files) {
  std::vector<CompressionRow> rows;
  for (const std::string& file : files) {
    rows.push_back(measure_compression(base, merged, file));
    if (rows.back().base.characters == 0)
      fail_data(file, "the file holds no text", "--report-text needs text to measure");
  }
  return rows;
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
  const std::vector<CompressionRow> rows = measure_texts(base, merged, options.report_text);
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
  const ordered_json report = report_json(vocabulary, rows, merged.fingerprint());
  if (options.json_output) {
    std::puts(report.dump().c_str());
  } else {
    print_report(report, vocabulary);
  }
  return 0;
}

}  // namespace llama2zh
