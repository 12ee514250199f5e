// llama2zh evaluate perplexity: how well a model predicts text. Numbers per token compare models of
// one vocabulary; per character and byte they compare across vocabularies.
#include <algorithm>
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/inference_options.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/eval/perplexity.h"

namespace llama2zh {
namespace {

constexpr int64_t kDefaultWindow = 2048;

struct PerplexityOptions {
  std::vector<std::string> file;
  std::string field = "auto";
  int64_t window = 0;
  int64_t stride = 0;
  bool json_output = false;
  static auto options() {
    using T = PerplexityOptions;
    return std::tuple(
        option("file", &T::file,
               "Text files: .txt is one text, .jsonl and .json one a row; also .gz and .zst."),
        option("field", &T::field, "JSON key of the text; auto takes input or text."),
        option("window", &T::window, "Tokens the model sees at once; 0: its context, at most 2048.",
               at_least(0)),
        option("stride", &T::stride,
               "Tokens from one window to the next; less than the window gives each token more "
               "context. 0: the window, no overlap.",
               at_least(0)),
        option("json", &T::json_output, "One object: the totals, and a list of files."));
  }
};

// Sum of two measurements; the name stays.
void add(PerplexityResult& sum, const PerplexityResult& part) {
  sum.tokens += part.tokens;
  sum.characters += part.characters;
  sum.bytes += part.bytes;
  sum.nll += part.nll;
}

PerplexityResult measure_file(const LoadedModel& loaded, const std::string& file,
                              const PerplexityOptions& options) {
  PerplexityResult sum;
  sum.name = file;
  int64_t done = 0;
  Progress progress(file, 0, "tokens");
  for_each_text(file, options.field, [&](std::string_view text, std::string_view) {
    add(sum, measure_perplexity(*loaded.model, *loaded.tokenizer, text, options.window,
                                options.stride, [&](int64_t tokens) {
                                  done += tokens;
                                  progress.update(done);
                                }));
  });
  progress.finish();
  if (sum.tokens == 0) fail_data(file, "it holds no text to measure");
  return sum;
}

ordered_json as_json(const PerplexityResult& result) {
  return {{"name", result.name},
          {"tokens", result.tokens},
          {"characters", result.characters},
          {"bytes", result.bytes},
          {"nll_per_token", result.nll_per_token()},
          {"perplexity", result.perplexity()},
          {"bits_per_character", result.bits_per_character()},
          {"bits_per_byte", result.bits_per_byte()}};
}

void print_row(const PerplexityResult& result) {
  std::printf("%12s %14s %10.4f %12.4f %10.4f %10.4f  %s\n", with_thousands(result.tokens).c_str(),
              with_thousands(result.characters).c_str(), result.nll_per_token(),
              result.perplexity(), result.bits_per_character(), result.bits_per_byte(),
              result.name.c_str());
}

void print_report(const std::vector<PerplexityResult>& files, const PerplexityResult& total,
                  const PerplexityOptions& options) {
  if (options.json_output) {
    ordered_json out = as_json(total);
    out["window"] = options.window;
    out["stride"] = options.stride;
    for (const PerplexityResult& file : files) out["files"].push_back(as_json(file));
    std::puts(out.dump().c_str());
    return;
  }
  std::printf("%12s %14s %10s %12s %10s %10s  %s\n", "tokens", "characters", "nll/token",
              "perplexity", "bits/char", "bits/byte", "file");
  for (const PerplexityResult& file : files) print_row(file);
  if (files.size() > 1) print_row(total);
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
                   "--window 1024 --stride 512 --json"},
      .positional = {"file"},
      .required = {"model", "file"}};
  const OptionTable table = join_tables({bind_options(inference), bind_options(options)});
  if (parse_command_line(spec, table, args).help) return 0;

  const std::vector<std::string> paths = expand_files(options.file);
  const LoadedModel loaded = load_for_inference(inference.request());
  const int64_t context = loaded.model->config.context_length();
  if (options.window == 0) options.window = std::min(context, kDefaultWindow);
  if (options.stride == 0) options.stride = options.window;

  std::vector<PerplexityResult> files;
  PerplexityResult total;
  total.name = "total";
  for (const std::string& path : paths) {
    files.push_back(measure_file(loaded, path, options));
    add(total, files.back());
  }
  print_report(files, total, options);
  return 0;
}

}  // namespace llama2zh
