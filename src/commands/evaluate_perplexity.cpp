// llama2zh evaluate perplexity: how well a model predicts text. Numbers per token compare models of
// one vocabulary; per character and byte they compare across vocabularies.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "commands/inference_options.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/data/token_store.h"
#include "llama2zh/eval/perplexity.h"

namespace llama2zh {
namespace {

constexpr int64_t kDefaultWindow = 2048, kLlamaCppWindow = 512;

struct PerplexityOptions {
  std::vector<std::string> file;
  std::string field = "auto";
  std::string set = "auto";
  std::string protocol = "windows";
  int64_t window = 0;
  int64_t stride = 0;
  bool json_output = false;
  static auto options() {
    using T = PerplexityOptions;
    return std::tuple(
        option("file", &T::file,
               "Text files: .txt is one text, .jsonl and .json one a row; also .gz and .zst. Or "
               "stores of `prepare`."),
        option("field", &T::field, "JSON key of the text; auto takes input or text."),
        option("set", &T::set, "Which rows of a store; auto: validation, or train without it.",
               one_of({"auto", "train", "validation"})),
        option("protocol", &T::protocol,
               "How a text is cut and what is scored. windows: every token once, BOS before each "
               "window. hf: Hugging Face's guide. llama.cpp: its llama-perplexity, the second half "
               "of each window of 512.",
               one_of({"windows", "hf", "llama.cpp"})),
        option("window", &T::window,
               "Tokens the model sees at once; 0: its context, at most 2048 (llama.cpp: 512).",
               at_least(0)),
        option("stride", &T::stride,
               "Tokens from one window to the next; less than the window gives each token more "
               "context. 0: the window, no overlap.",
               at_least(0)),
        option("json", &T::json_output, "One object: the totals, and a list of files."));
  }
};

PerplexityRule rule_of(const PerplexityOptions& options, const LlamaConfig& config) {
  const bool llama_cpp = options.protocol == "llama.cpp";
  PerplexityRule rule;
  rule.protocol = llama_cpp                  ? PerplexityProtocol::kLlamaCpp
                  : options.protocol == "hf" ? PerplexityProtocol::kHuggingFace
                                             : PerplexityProtocol::kWindows;
  rule.window = options.window;
  if (rule.window == 0)
    rule.window = std::min(config.context_length(), llama_cpp ? kLlamaCppWindow : kDefaultWindow);
  rule.stride = options.stride == 0 ? rule.window : options.stride;
  check_rule(rule, config);
  return rule;
}

using OnTokens = std::function<void(int64_t)>;

PerplexityResult measure_texts(const LoadedModel& loaded, const std::string& file,
                               const std::string& field, const PerplexityRule& rule,
                               const OnTokens& on_tokens) {
  PerplexityResult sum;
  for_each_text(file, field, [&](std::string_view text, std::string_view) {
    sum.add(measure_perplexity(*loaded.model, *loaded.tokenizer, text, rule, on_tokens));
  });
  return sum;
}

std::string chosen_set(const StoreInfo& info, const std::string& folder,
                       const std::string& wanted) {
  if (wanted == "auto") return info.sets.count("validation") != 0 ? "validation" : "train";
  if (info.sets.count(wanted) == 0) fail_usage("--set", cat(folder, " has no ", wanted, " rows"));
  return wanted;
}

// Rows as they are stored; BOS goes, since each measurement brings its own. Special tokens (EOS, a
// template's) are scored, but are no part of the text that characters are counted of.
PerplexityResult measure_store(const LoadedModel& loaded, const std::string& folder,
                               const std::string& set, const PerplexityRule& rule,
                               const OnTokens& on_tokens) {
  const StoreInfo info = read_store_info(folder);
  const Tokenizer& tokenizer = *loaded.tokenizer;
  if (info.tokenizer_sha256 != tokenizer.fingerprint()) {
    fail_format(folder, "the store was made with another tokenizer than the model's",
                "prepare it again with this model's tokenizer");
  }
  const auto rows = open_token_store(folder, chosen_set(info, folder, set));
  PerplexityResult sum;
  for (int64_t row = 0; row < rows->size(); ++row) {
    std::vector<TokenId> ids;
    std::vector<uint8_t> supervised;
    rows->read(rows->begin(row), static_cast<int64_t>(rows->length(row)), ids, supervised);
    if (!ids.empty() && ids.front() == tokenizer.bos_id()) ids.erase(ids.begin());
    PerplexityResult part = measure_perplexity(*loaded.model, tokenizer, ids, rule, on_tokens);
    const std::string text = tokenizer.decode(ids);
    part.characters = static_cast<int64_t>(utf8_length(text));
    part.bytes = static_cast<int64_t>(text.size());
    sum.add(part);
  }
  return sum;
}

PerplexityResult measure_file(const LoadedModel& loaded, const std::string& file,
                              const PerplexityOptions& options, const PerplexityRule& rule) {
  int64_t done = 0;
  Progress progress(file, 0, "tokens");
  const OnTokens on_tokens = [&](int64_t tokens) {
    throw_if_stopped();
    progress.update(done += tokens);
  };
  PerplexityResult sum = is_token_store(file)
                             ? measure_store(loaded, file, options.set, rule, on_tokens)
                             : measure_texts(loaded, file, options.field, rule, on_tokens);
  progress.finish();
  sum.name = file;
  if (sum.text_tokens == 0) fail_data(file, "it holds no text to measure");
  if (sum.tokens == 0) {
    fail_data(file, cat("its ", sum.text_tokens, " tokens do not fill a window of ", rule.window),
              "give longer texts, a smaller --window, or --protocol windows");
  }
  return sum;
}

ordered_json as_json(const PerplexityResult& result) {
  return {{"name", result.name},
          {"tokens", result.tokens},
          {"text_tokens", result.text_tokens},
          {"special_tokens", result.special_tokens},
          {"characters", result.characters},
          {"bytes", result.bytes},
          {"nll_per_token", result.nll_per_token()},
          {"nll_standard_error", result.standard_error()},
          {"perplexity", result.perplexity()},
          {"perplexity_standard_error", result.perplexity_error()},
          {"bits_per_character", result.bits_per_character()},
          {"bits_per_character_standard_error", result.bits_per_character_error()},
          {"bits_per_byte", result.bits_per_byte()},
          {"bits_per_byte_standard_error", result.bits_per_byte_error()}};
}

void print_row(const PerplexityResult& result) {
  std::printf("%12s %14s %10.4f %12.4f %9.4f %10.4f %9.4f %10.4f %9.4f  %s\n",
              with_thousands(result.tokens).c_str(), with_thousands(result.characters).c_str(),
              result.nll_per_token(), result.perplexity(), result.perplexity_error(),
              result.bits_per_character(), result.bits_per_character_error(),
              result.bits_per_byte(), result.bits_per_byte_error(), result.name.c_str());
}

void print_report(const std::vector<PerplexityResult>& files, const PerplexityResult& total,
                  const PerplexityOptions& options, const PerplexityRule& rule) {
  if (options.json_output) {
    ordered_json out = as_json(total);
    out["protocol"] = options.protocol;
    out["window"] = rule.window;
    out["stride"] = rule.stride;
    for (const PerplexityResult& file : files) out["files"].push_back(as_json(file));
    std::puts(out.dump().c_str());
    return;
  }
  std::printf("protocol %s, windows of %lld tokens, stride %lld\n", options.protocol.c_str(),
              static_cast<long long>(rule.window), static_cast<long long>(rule.stride));
  std::printf("%12s %14s %10s %12s %9s %10s %9s %10s %9s  %s\n", "tokens", "characters",
              "nll/token", "perplexity", "+-", "bits/char", "+-", "bits/byte", "+-", "file");
  for (const PerplexityResult& file : files) print_row(file);
  if (files.size() > 1) print_row(total);
}

// Stores stay as they are named; the rest is expanded.
std::vector<std::string> expand_inputs(const std::vector<std::string>& names) {
  std::vector<std::string> inputs;
  for (const std::string& name : names) {
    if (is_token_store(name)) {
      inputs.push_back(name);
      continue;
    }
    for (std::string& file : expand_files({name})) inputs.push_back(std::move(file));
  }
  return inputs;
}

}  // namespace

int run_evaluate_perplexity(const std::vector<std::string>& args) {
  InferenceOptions inference;
  PerplexityOptions options;
  const CommandSpec spec{
      .verb = "evaluate perplexity",
      .summary =
          "Measures nll per token, perplexity, bits per character and per byte on text files.",
      .examples = {"llama2zh evaluate perplexity --model base --file zh.txt en.txt",
                   "llama2zh evaluate perplexity --model base --adapter out --file test.jsonl "
                   "--window 1024 --stride 512 --json",
                   "llama2zh evaluate perplexity --model base --file wiki.txt --protocol "
                   "llama.cpp"},
      .positional = {"file"},
      .required = {"model", "file"}};
  const OptionTable table = join_tables({bind_options(inference), bind_options(options)});
  if (parse_command_line(spec, table, args).help) return 0;

  const std::vector<std::string> paths = expand_inputs(options.file);
  const LoadedModel loaded = load_for_inference(inference.plain_request());
  const PerplexityRule rule = rule_of(options, loaded.model->config);

  std::vector<PerplexityResult> files;
  PerplexityResult total;
  total.name = "total";
  for (const std::string& path : paths) {
    files.push_back(measure_file(loaded, path, options, rule));
    total.add(files.back());
  }
  print_report(files, total, options, rule);
  return 0;
}

}  // namespace llama2zh
