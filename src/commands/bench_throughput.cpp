// llama2zh bench throughput: many requests of random tokens at once, as a batch of prompts comes to
// the engine.
#include <string>
#include <tuple>
#include <vector>

#include "commands/bench_inference.h"
#include "commands/bench_training.h"
#include "commands/inference_options.h"
#include "commands/verbs.h"
#include "llama2zh/config/command_line.h"

namespace llama2zh {
namespace {

struct ThroughputOptions {
  int64_t requests = 32;
  int64_t input_tokens = 128;
  int64_t output_tokens = 128;
  double spread = 0;
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  int64_t seed = 0;
  bool json_output = false;
  static auto options() {
    using T = ThroughputOptions;
    return std::tuple(
        option("requests", &T::requests, "Requests, all there from the start.", at_least(1)),
        option("input_tokens", &T::input_tokens, "Tokens of a prompt.", at_least(1)),
        option("output_tokens", &T::output_tokens, "Tokens of an answer.", at_least(1)),
        option("spread", &T::spread,
               "Lengths vary evenly by this share of them, up and down; 0: all are alike.",
               between(0, 1)),
        option("temperature", &T::temperature, "Of drawing tokens; 0: the likeliest always.",
               between(0, 100)),
        option("top_k", &T::top_k, "Draw from the k likeliest tokens; 0: from all.", at_least(0)),
        option("top_p", &T::top_p, "Draw from the likeliest that together reach this probability.",
               between(0, 1)),
        option("seed", &T::seed, "Seed of tokens and lengths.", at_least(0)),
        option("json", &T::json_output, "One JSON object."));
  }
};

ordered_json measure_throughput(const LoadedModel& loaded, const ThroughputOptions& options,
                                const EngineConfig& config, ordered_json report) {
  Engine engine(*loaded.model, *loaded.tokenizer, config, loaded.parts());
  const int64_t vocabulary = loaded.model->config.vocab_size;
  Random random(static_cast<uint64_t>(options.seed));
  run_requests(engine, {random_request(random, vocabulary, 32, 4)});  // warm
  std::vector<Request> requests;
  for (int64_t i = 0; i < options.requests; ++i) {
    const int64_t input = varied(random, options.input_tokens, options.spread);
    const int64_t output = varied(random, options.output_tokens, options.spread);
    requests.push_back(random_request(random, vocabulary, input, output));
    SamplingConfig& sampling = requests.back().sampling;
    sampling.temperature = options.temperature;
    sampling.top_k = options.top_k;
    sampling.top_p = options.top_p;
    sampling.seed = i;
  }
  const EngineRun run = run_requests(engine, requests);
  int64_t input = 0, output = 0;
  std::vector<double> first, whole;
  for (const RequestResult& result : run.results) {
    input += result.prompt_tokens;
    output += static_cast<int64_t>(result.completions.front().ids.size());
    first.push_back(result.first_token_seconds);
    whole.push_back(result.total_seconds);
  }
  report["requests"] = options.requests;
  report["input_tokens"] = input;
  report["output_tokens"] = output;
  report["temperature"] = options.temperature;
  report["top_k"] = options.top_k;
  report["top_p"] = options.top_p;
  report["max_running"] = config.max_running;
  report["seconds"] = rounded(run.seconds);
  report["tok_s"] = rounded(static_cast<double>(input + output) / run.seconds);
  report["output_tok_s"] = rounded(static_cast<double>(output) / run.seconds);
  report["requests_s"] = rounded(static_cast<double>(options.requests) / run.seconds);
  report["first_token_s_p50"] = rounded(percentile(first, 0.5));
  report["first_token_s_p95"] = rounded(percentile(first, 0.95));
  report["request_s_p50"] = rounded(percentile(whole, 0.5));
  report["request_s_p95"] = rounded(percentile(whole, 0.95));
  report["drafted_tokens"] = engine.stats().drafted_tokens;
  report["accepted_tokens"] = engine.stats().accepted_tokens;
  report["preemptions"] = engine.stats().preemptions;
  return report;
}

}  // namespace

int run_bench_throughput(const std::vector<std::string>& args) {
  InferenceOptions inference;
  ThroughputOptions options;
  EngineConfig config;
  SpeculationOptions speculation;
  const CommandSpec spec{
      .verb = "bench throughput",
      .summary =
          "Answers many requests of random tokens together: tokens/s of prompts and answers, "
          "and how long requests took. --max-running is how many are answered at once.",
      .examples = {"llama2zh bench throughput --model MODEL --requests 64 --max-running 16",
                   "llama2zh bench throughput --model MODEL --input-tokens 512 --output-tokens 64 "
                   "--spread 0.5 --json"},
      .positional = {},
      .required = {"model"}};
  const OptionTable table = join_tables({bind_options(inference), bind_options(options),
                                         bind_options(config), bind_options(speculation)});
  if (parse_command_line(spec, table, args).help) return 0;
  LoadRequest request = inference.request();
  speculation.apply(config, request);
  const TimedModel model = load_timed(request);
  const ordered_json report = measure_throughput(
      model.loaded, options, config, bench_setting("throughput", inference.model, model));
  print_report(report, options.json_output);
  return 0;
}

}  // namespace llama2zh
