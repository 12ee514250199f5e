// llama2zh evaluate compare A B: what a merge, a quantization or a training has changed. Perplexity and
// bits per character compare any two models; distances and agreement need the same vocabulary.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "commands/bench_inference.h"
#include "commands/compare_report.h"
#include "commands/compare_texts.h"
#include "commands/inference_options.h"
#include "commands/prompts.h"
#include "commands/staged_output.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/data/token_store.h"
#include "llama2zh/engine/generator.h"

namespace llama2zh {
namespace {

struct CompareOptions {
  std::vector<std::string> models;
  std::vector<std::string> adapter;
  std::vector<std::string> adapter_a;
  std::vector<std::string> tokenizer;
  std::vector<std::string> template_names;
  std::vector<std::string> file;
  std::string field = "auto";
  int64_t characters = 100000;
  int64_t window = 512;
  std::vector<std::string> prompt;
  bool raw = false;
  int64_t max_new_tokens = 96;
  bool speed = true;
  std::string dtype = "auto";
  std::string device = "auto";
  std::string output;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = CompareOptions;
    return std::tuple(
        option("models", &T::models, "The two models: folders, .gguf files."),
        option("adapter", &T::adapter, "LoRA adapters on the second model, B."),
        option("adapter_a", &T::adapter_a, "LoRA adapters on the first model, A."),
        option("tokenizer", &T::tokenizer,
               "Tokenizers of A and of B, or one of both; empty: the adapter's, else the model's."),
        option("template", &T::template_names,
               "Chat templates of A and of B, or one of both; empty: as stored with them."),
        option(
            "file", &T::file,
            "Text files, as `evaluate perplexity` takes them; no stores, whose tokens are of one "
            "vocabulary."),
        option("field", &T::field, "JSON key of the text; auto takes input or text."),
        option("characters", &T::characters, "Of each file, from its beginning; 0: all.",
               at_least(0)),
        option("window", &T::window, "Tokens a model sees at once.", at_least(2)),
        option("prompt", &T::prompt, "Prompts that both answer, greedily."),
        option("raw", &T::raw,
               "Prompts are texts to go on with, not questions in a chat template."),
        option("max_new_tokens", &T::max_new_tokens, "Of an answer.", between(1, 65536)),
        option("speed", &T::speed, "Also time a prompt of 256 tokens and an answer of 64."),
        option("dtype", &T::dtype, "Type to compute in; auto: as each model's weights are stored.",
               one_of({"auto", "float32", "bfloat16", "float16"})),
        option("device", &T::device, "Where to compute; auto: cuda if it is there.",
               device_names()),
        option("output", &T::output,
               "Folder for report.md and its plots, report.html and results.json."),
        option("overwrite", &T::overwrite, "Replace it if it is not empty."),
        option("json", &T::json_output, "results.json on standard output."));
  }
};

const std::vector<std::string>& adapters_of(const CompareOptions& options, size_t side) {
  return side == 0 ? options.adapter_a : options.adapter;
}

// What is said once holds for both sides.
std::string of_side(const std::vector<std::string>& values, size_t side) {
  return values.empty() ? "" : values[std::min(side, values.size() - 1)];
}

LoadedModel load_side(const CompareOptions& options, size_t side) {
  const std::vector<std::string>& adapters = adapters_of(options, side);
  LoadRequest request;
  request.model = options.models[side];
  request.adapters = {adapters.begin(), adapters.end()};
  request.tokenizer = of_side(options.tokenizer, side);
  request.template_name = of_side(options.template_names, side);
  request.dtype = options.dtype;
  request.device = options.device;
  return load_for_inference(request);
}

ordered_json describe_side(const CompareOptions& options, size_t side) {
  const OpenModel open = open_model(options.models[side]);
  const uint64_t bytes = weight_bytes(open);
  const int64_t parameters = open.config.parameter_count();
  std::string name = options.models[side];
  for (const std::string& adapter : adapters_of(options, side)) name += " + " + adapter;
  return {{"model", name},
          {"parameters", parameters},
          {"bytes", bytes},
          {"bits_per_weight", 8 * static_cast<double>(bytes) / static_cast<double>(parameters)},
          {"vocab_size", open.config.vocab_size},
          {"prompt_tok_s", nullptr},
          {"answer_tok_s", nullptr}};
}

double rate(const LoadedModel& loaded, int64_t prompt_tokens, int64_t new_tokens) {
  EngineConfig config;
  config.max_running = 1;
  config.prefix_cache = false;
  Engine engine(*loaded.model, *loaded.tokenizer, config, loaded.parts());
  Random random(1);
  const int64_t vocabulary = loaded.model->config.vocab_size;
  run_requests(engine, {random_request(random, vocabulary, prompt_tokens, 1)});  // warm
  const Request request = random_request(random, vocabulary, prompt_tokens, new_tokens);
  const int64_t counted = new_tokens > 1 ? new_tokens : prompt_tokens;
  return rounded(static_cast<double>(counted) / run_requests(engine, {request}).seconds);
}

void add_speed(ordered_json& side, const LoadedModel& loaded) {
  const int64_t room = loaded.model->config.context_length() - 2;
  side["prompt_tok_s"] = rate(loaded, std::min<int64_t>(256, room), 1);
  side["answer_tok_s"] = rate(loaded, 1, std::min<int64_t>(64, room));
}

std::string answer_of(const LoadedModel& loaded, const std::string& prompt,
                      const CompareOptions& options) {
  Generator generator(*loaded.model, *loaded.tokenizer);
  Request request;
  request.prompt = prompt_of_text(loaded, {options.raw, ""}, prompt);
  request.sampling.temperature = 0;
  request.sampling.max_new_tokens = options.max_new_tokens;
  request.continues = options.raw;
  if (!options.raw) request.extra_stops = loaded.chat_template->stop_texts();
  const GenerationResult result =
      generator.generate(std::move(request), [](std::string_view) { return !stop_requested(); });
  throw_if_stopped();
  return result.text;
}

ordered_json compare(const CompareOptions& options) {
  ordered_json results = {{"models", {describe_side(options, 0), describe_side(options, 1)}},
                          {"files", ordered_json::array()},
                          {"answers", ordered_json::array()}};
  const LoadedModel a = load_side(options, 0), b = load_side(options, 1);
  if (!options.raw && !options.prompt.empty()) {
    require_template(a, options.models[0], ", or pass --raw");
    require_template(b, options.models[1], ", or pass --raw");
  }
  const int64_t window = std::min(
      {options.window, a.model->config.context_length(), b.model->config.context_length()});
  for (const std::string& file : options.file)
    results["files"].push_back(
        compare_on_text(a, b, file, {options.field, options.characters, window}));
  for (const std::string& prompt : options.prompt) {
    results["answers"].push_back({{"prompt", prompt},
                                  {"a", answer_of(a, prompt, options)},
                                  {"b", answer_of(b, prompt, options)}});
  }
  if (options.speed) {
    add_speed(results["models"][0], a);
    add_speed(results["models"][1], b);
  }
  results["settings"] = {
      {"dtype", {dtype_name(a.model->compute_dtype()), dtype_name(b.model->compute_dtype())}},
      {"device", a.model->device().str()},
      {"threads", at::get_num_threads()},
      {"characters", options.characters},
      {"window", window}};
  results["note"] = cat(
      "Perplexity is per token and compares models of one vocabulary; bits per character compare "
      "any two. Errors are standard errors over tokens. Windows of ",
      window, " tokens without overlap, BOS before each; ", at::get_num_threads(), " threads.");
  return results;
}

void check_compare_options(const CompareOptions& options) {
  if (options.models.size() != 2)
    fail_usage("models", cat("two models are compared, ", options.models.size(), " were named"));
  if (options.tokenizer.size() > 2) fail_usage("tokenizer", "there are two models only");
  if (options.template_names.size() > 2) fail_usage("template", "there are two models only");
  for (const std::string& file : options.file) {
    if (is_token_store(file))
      fail_usage("file",
                 cat(file,
                     " is a store: its tokens are of one vocabulary, and texts are cut "
                     "by characters here"),
                 "give its text files, or measure it with `evaluate perplexity`");
  }
}

CommandSpec compare_spec() {
  return {.verb = "evaluate compare",
          .summary = "Two models side by side: perplexity, distance, answers, speed and size.",
          .examples = {"llama2zh evaluate compare base chat --file zh.txt en.txt --prompt 你是谁？ "
                       "--output report",
                       "llama2zh evaluate compare model model-int4 --file zh.txt en.txt --json"},
          .positional = {"models"},
          .required = {"models"}};
}

}  // namespace

int run_evaluate_compare(const std::vector<std::string>& args) {
  CompareOptions options;
  if (parse_command_line(compare_spec(), bind_options(options), args).help) return 0;
  check_compare_options(options);
  options.file = expand_files(options.file);
  std::unique_ptr<StagedFolder> folder;
  if (!options.output.empty()) {
    folder.reset(new StagedFolder(
        stage_output(options.output, options.overwrite,
                     {{"models", options.models[0]}, {"models", options.models[1]}})));
  } else {
    install_stop_signals();
  }
  const ordered_json results = compare(options);
  if (folder) {
    write_json_file(folder->path() / "results.json", results);
    const std::vector<ComparePlot> plots = compare_plots(results);
    for (const ComparePlot& plot : plots) write_file_atomic(folder->path() / plot.file, plot.svg);
    write_file_atomic(folder->path() / "report.md", compare_markdown(results, plots));
    write_file_atomic(folder->path() / "report.html", compare_html(results, plots));
    folder->commit();
  }
  std::fputs(
      options.json_output ? (results.dump() + "\n").c_str() : compare_markdown(results, {}).c_str(),
      stdout);
  return 0;
}

}  // namespace llama2zh
