// llama2zh bench generate: prompts alone (pp) and answers alone (tg) as llama.cpp's llama-bench
// measures them: pp is p random tokens to the first new one, tg is n new tokens after BOS; with a
// batch of b, b sequences at once.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/bench_inference.h"
#include "commands/inference_options.h"
#include "commands/verbs.h"
#include "llama2zh/base/memory.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/engine/block_pool.h"
#include "llama2zh/kernels/memory_rate.h"

namespace llama2zh {
namespace {

struct BenchGenerateOptions {
  std::vector<int64_t> prompt = {512};
  std::vector<int64_t> answer = {128};
  std::vector<int64_t> batch = {1};
  int64_t repetitions = 3;
  int64_t max_step_tokens = 512;
  std::string kv_dtype = "auto";
  std::string speculate = "none";
  int64_t speculative_tokens = 4;
  bool json_output = false;
  static auto options() {
    using T = BenchGenerateOptions;
    return std::tuple(
        option("prompt_tokens", &T::prompt, "Lengths of prompts; 0: none.", between(0, 1048576)),
        option("new_tokens", &T::answer, "Lengths of answers; 0: none.", between(0, 1048576)),
        option("batch", &T::batch, "Sequences at once.", between(1, 4096)),
        option("repetitions", &T::repetitions, "Times that each is measured.", at_least(1)),
        option("max_step_tokens", &T::max_step_tokens, "Tokens in one forward pass, at most.",
               between(17, 1048576)),
        option("kv_dtype", &T::kv_dtype, "Type of keys and values.",
               one_of({"auto", "float32", "bfloat16", "int8"})),
        option("speculate", &T::speculate, "Guess ahead: by what came before, or by draft_model.",
               one_of({"none", "lookup", "draft"})),
        option("speculative_tokens", &T::speculative_tokens, "Tokens that are guessed at once.",
               between(1, 64)),
        option("json", &T::json_output, "One JSON object."));
  }
};

// Tokens/s of each repetition; what was guessed in all of them.
struct Rates {
  std::vector<double> rates;
  int64_t drafted = 0, accepted = 0;
};
Rates measure_rates(const LoadedModel& loaded, const BenchGenerateOptions& options, int64_t batch,
                    int64_t prompt_tokens, int64_t new_tokens) {
  EngineConfig config;
  config.max_running = batch;
  config.max_step_tokens = std::max(options.max_step_tokens, batch + kBlockTokens);
  config.kv_dtype = options.kv_dtype;
  config.prefix_cache = false;
  config.speculate = options.speculate;
  config.speculative_tokens = options.speculative_tokens;
  Engine engine(*loaded.model, *loaded.tokenizer, config, loaded.parts());
  Random random(1);
  const int64_t vocabulary = loaded.model->config.vocab_size;
  const int64_t counted = prompt_tokens > 1 ? prompt_tokens : new_tokens;
  run_requests(engine, {random_request(random, vocabulary, prompt_tokens, 1)});  // warm
  Rates measured;
  for (int64_t i = 0; i < options.repetitions; ++i) {
    std::vector<Request> requests;
    for (int64_t b = 0; b < batch; ++b)
      requests.push_back(random_request(random, vocabulary, prompt_tokens, new_tokens));
    const double seconds = run_requests(engine, requests).seconds;
    measured.rates.push_back(static_cast<double>(batch * counted) / seconds);
  }
  measured.drafted = engine.stats().drafted_tokens;
  measured.accepted = engine.stats().accepted_tokens;
  return measured;
}

// What bounds the answers of a CPU: each pass reads all weights.
struct MemoryBound {
  double bytes_per_second = 0;  // 0: not measured
  uint64_t pass_bytes = 0;
  double tokens_per_second(int64_t batch) const {
    return static_cast<double>(batch) * bytes_per_second / static_cast<double>(pass_bytes);
  }
};

ordered_json row_of(const std::string& test, int64_t batch, const Rates& measured) {
  const std::vector<double>& rates = measured.rates;
  double sum = 0, squares = 0;
  for (const double rate : rates) sum += rate;
  const auto count = static_cast<double>(rates.size());
  const double mean = sum / count;
  for (const double rate : rates) squares += (rate - mean) * (rate - mean);
  const double deviation = rates.size() > 1 ? std::sqrt(squares / (count - 1)) : 0;
  return {{"test", test},
          {"batch", batch},
          {"tok_s", rounded(mean)},
          {"tok_s_deviation", rounded(deviation)},
          {"tok_s_best", rounded(percentile(rates, 1))},
          {"drafted_tokens", measured.drafted},
          {"accepted_tokens", measured.accepted}};
}

void add_bound(ordered_json& row, const MemoryBound& bound) {
  if (bound.bytes_per_second == 0) return;
  const double most = bound.tokens_per_second(row["batch"].get<int64_t>());
  row["memory_limit_tok_s"] = rounded(most);
  row["share_of_memory_limit"] = rounded(row["tok_s"].get<double>() / most);
}

void print_rates(const ordered_json& row) {
  std::string share;
  if (row.contains("share_of_memory_limit"))
    share = cat(", ", std::lround(100 * row["share_of_memory_limit"].get<double>()),
                " % of what memory allows");
  std::printf(
      "%-10s batch %-4lld %10.4g tokens/s +- %.2g%s%s\n", row["test"].get<std::string>().c_str(),
      static_cast<long long>(row["batch"].get<int64_t>()), row["tok_s"].get<double>(),
      row["tok_s_deviation"].get<double>(), share.c_str(),
      draft_report(row["drafted_tokens"].get<int64_t>(), row["accepted_tokens"].get<int64_t>())
          .c_str());
  std::fflush(stdout);
}

}  // namespace

int run_bench_generate(const std::vector<std::string>& args) {
  InferenceOptions inference;
  BenchGenerateOptions options;
  SpeculationOptions speculation;
  const CommandSpec spec{
      .verb = "bench generate",
      .summary = "Tokens/s of prompts (pp) and of answers (tg), as llama-bench's -p and -n.",
      .examples =
          {"llama2zh bench generate --model MODEL --prompt-tokens 512 --new-tokens 128",
           "llama2zh bench generate --model MODEL --prompt-tokens 0 --new-tokens 64 --batch 1 8"},
      .positional = {},
      .required = {"model"}};
  const OptionTable table =
      join_tables({bind_options(inference), bind_options(options), bind_options(speculation)});
  if (parse_command_line(spec, table, args).help) return 0;
  EngineConfig config{.speculate = options.speculate};
  LoadRequest request = inference.request();
  speculation.apply(config, request);
  options.speculate = config.speculate;
  const TimedModel model = load_timed(request);
  const LoadedModel& loaded = model.loaded;
  ordered_json report = bench_setting("generate", inference.model, model);
  MemoryBound bound;
  if (loaded.model->device().is_cpu()) {
    bound = {measure_memory_rate(), pass_bytes(*loaded.model)};
    report["memory_gb_s"] = rounded(1e-9 * bound.bytes_per_second);
    report["pass_gb"] = rounded(1e-9 * static_cast<double>(bound.pass_bytes));
    reset_peak_memory();
  }
  report["results"] = ordered_json::array();
  const auto add = [&](const std::string& test, int64_t batch, int64_t prompt, int64_t answer) {
    ordered_json row = row_of(test, batch, measure_rates(loaded, options, batch, prompt, answer));
    if (answer > 1) add_bound(row, bound);
    report["results"].push_back(std::move(row));
    if (!options.json_output) print_rates(report["results"].back());
  };
  for (const int64_t batch : options.batch) {
    for (const int64_t p : options.prompt)
      if (p > 0) add(cat("pp", p), batch, p, 1);
    for (const int64_t n : options.answer)
      if (n > 0) add(cat("tg", n), batch, 1, n);
  }
  report["peak_gib"] = rounded(static_cast<double>(process_memory().peak) / (1 << 30));
  if (options.json_output)
    std::puts(report.dump().c_str());
  else
    std::printf("loaded in %.2f s, %.2f GiB at most\n", model.seconds,
                report["peak_gib"].get<double>());
  return 0;
}

}  // namespace llama2zh
