// llama2zh bench serve: what users of a running server would see, this one or another that speaks
// OpenAI's /v1/completions.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "commands/bench_inference.h"
#include "commands/bench_training.h"
#include "commands/serve_load.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {
namespace {

struct BenchServeOptions {
  std::string host = "127.0.0.1";
  int64_t port = 8000;
  std::string model;
  std::string api_key_file;
  int64_t requests = 64;
  double rate = 0;
  int64_t concurrency = 8;
  std::string input;
  std::string tokenizer;
  int64_t input_tokens = 128;
  int64_t output_tokens = 128;
  double spread = 0;
  int64_t vocabulary = 32000;
  double first_token_goal = 2;
  double between_tokens_goal = 0.2;
  int64_t seed = 0;
  bool json_output = false;
  static auto options() {
    using T = BenchServeOptions;
    return std::tuple(
        option("host", &T::host, "The server's address.", not_empty()),
        option("port", &T::port, "Its port.", between(1, 65535)),
        option("model", &T::model, "Model to ask for; empty: none is named."),
        option("api_key_file", &T::api_key_file, "File whose first line is the API key."),
        option("requests", &T::requests, "Requests in all.", at_least(1)),
        option("rate", &T::rate,
               "Requests a second, at random times, answered or not (open loop); 0: as fast as "
               "`concurrency` clients ask.",
               at_least(0)),
        option("concurrency", &T::concurrency, "Clients at once, without a rate.",
               between(1, 4096)),
        option("input", &T::input,
               "Dialogues (JSON lines, any form that training reads): their first questions are "
               "the prompts, and answers get the length of theirs. Needs tokenizer. Empty: random "
               "tokens."),
        option("tokenizer", &T::tokenizer, "Tokenizer that lengths of `input` are counted with."),
        option("input_tokens", &T::input_tokens, "Tokens of a random prompt.", at_least(1)),
        option("output_tokens", &T::output_tokens, "Tokens of its answer; of `input`: at most.",
               at_least(1)),
        option("spread", &T::spread, "Random lengths vary evenly by this share, up and down.",
               between(0, 1)),
        option("vocabulary", &T::vocabulary, "Random ids are below this.", at_least(16)),
        option("first_token_goal", &T::first_token_goal,
               "Seconds to the first text within which a request counts for goodput.",
               greater_than(0)),
        option("between_tokens_goal", &T::between_tokens_goal,
               "And the mean seconds between two pieces of text.", greater_than(0)),
        option("seed", &T::seed, "Seed of prompts, lengths and arrivals.", at_least(0)),
        option("json", &T::json_output, "One JSON object."));
  }
};

std::vector<LoadPrompt> random_prompts(const BenchServeOptions& options) {
  Random random(static_cast<uint64_t>(options.seed));
  std::vector<LoadPrompt> out;
  for (int64_t i = 0; i < options.requests; ++i) {
    json ids = json::array({1});
    const int64_t length = varied(random, options.input_tokens, options.spread);
    while (static_cast<int64_t>(ids.size()) < length)
      ids.push_back(3 + random.below(static_cast<uint64_t>(options.vocabulary - 3)));
    out.push_back({std::move(ids), varied(random, options.output_tokens, options.spread)});
  }
  return out;
}

// From the first row on, and from the start again where there are fewer than requests.
std::vector<LoadPrompt> prompts_of_rows(const BenchServeOptions& options) {
  if (options.tokenizer.empty())
    fail_usage("input", "a tokenizer is needed to count its lengths", "give --tokenizer");
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  std::vector<LoadPrompt> rows;
  LineReader reader(options.input);
  std::string line;
  while (static_cast<int64_t>(rows.size()) < options.requests && reader.next(line)) {
    if (trim(line).empty()) continue;
    const std::vector<Message> messages =
        parse_dialogue(parse_json(line, reader.where()), "auto", reader.where());
    const auto question = std::find_if(messages.begin(), messages.end(),
                                       [](const Message& one) { return one.role == Role::kUser; });
    if (question == messages.end() || question + 1 == messages.end()) continue;
    const auto length = std::ssize(tokenizer.encode((question + 1)->content));
    rows.push_back({question->content, std::clamp<int64_t>(length, 1, options.output_tokens)});
  }
  if (rows.empty()) fail_data(options.input, "there is no dialogue in it");
  std::vector<LoadPrompt> out;
  for (int64_t i = 0; i < options.requests; ++i)
    out.push_back(rows[static_cast<size_t>(i) % rows.size()]);
  return out;
}

void add_percentiles(ordered_json& report, const std::string& name,
                     const std::vector<double>& values) {
  if (values.empty()) return;
  for (const auto& [suffix, share] : {std::pair("_p50", 0.5), {"_p95", 0.95}, {"_p99", 0.99}})
    report[name + suffix] = rounded(percentile(values, share));
}

bool is_good(const LoadOutcome& outcome, const BenchServeOptions& options) {
  double sum = 0;
  for (const double gap : outcome.gaps) sum += gap;
  return outcome.first - outcome.start <= options.first_token_goal &&
         sum <= options.between_tokens_goal *
                    static_cast<double>(std::max<size_t>(1, outcome.gaps.size()));
}

ordered_json report_of(const std::vector<LoadOutcome>& outcomes, const BenchServeOptions& options) {
  std::vector<double> first, between, whole;
  int64_t input = 0, output = 0, good = 0, failed = 0;
  double end = 0;
  std::string error;
  for (const LoadOutcome& outcome : outcomes) {
    if (!outcome.error.empty()) {
      if (failed++ == 0) error = outcome.error;
      continue;
    }
    input += outcome.prompt_tokens;
    output += outcome.output_tokens;
    first.push_back(outcome.first - outcome.start);
    whole.push_back(outcome.end - outcome.start);
    between.insert(between.end(), outcome.gaps.begin(), outcome.gaps.end());
    good += is_good(outcome, options) ? 1 : 0;
    end = std::max(end, outcome.end);
  }
  ordered_json report = {{"bench", "serve"},
                         {"server", cat(options.host, ":", options.port)},
                         {"requests", outcomes.size()},
                         {"failed", failed}};
  if (failed > 0) report["first_error"] = error;
  if (options.rate > 0)
    report["rate"] = options.rate;
  else
    report["concurrency"] = options.concurrency;
  report["seconds"] = rounded(end);
  report["input_tokens"] = input;
  report["output_tokens"] = output;
  if (end > 0) {
    report["requests_s"] = rounded(static_cast<double>(whole.size()) / end);
    report["tok_s"] = rounded(static_cast<double>(input + output) / end);
    report["output_tok_s"] = rounded(static_cast<double>(output) / end);
    report["goodput_requests_s"] = rounded(static_cast<double>(good) / end);
  }
  add_percentiles(report, "first_token_s", first);
  add_percentiles(report, "between_tokens_s", between);
  add_percentiles(report, "request_s", whole);
  return report;
}

}  // namespace

int run_bench_serve(const std::vector<std::string>& args) {
  BenchServeOptions options;
  const CommandSpec spec{
      .verb = "bench serve",
      .summary =
          "Load on a running server through /v1/completions: tokens/s, times to the first token, "
          "between tokens and to the end, goodput. Exit code 1 if any request failed.",
      .examples = {"llama2zh bench serve --port 8000 --concurrency 16 --requests 128",
                   "llama2zh bench serve --rate 2 --input sharegpt.jsonl --tokenizer MODEL "
                   "--output-tokens 256 --json"},
      .positional = {},
      .required = {}};
  if (parse_command_line(spec, bind_options(options), args).help) return 0;
  ServeLoad load;
  load.server.host = options.host;
  load.server.port = static_cast<uint16_t>(options.port);
  load.model = options.model;
  load.rate = options.rate;
  load.concurrency = options.concurrency;
  load.seed = options.seed;
  if (!options.api_key_file.empty()) {
    const std::string text = read_file(options.api_key_file);
    load.server.headers.push_back(
        {"Authorization", cat("Bearer ", trim(text.substr(0, text.find('\n'))))});
  }
  load.prompts = options.input.empty() ? random_prompts(options) : prompts_of_rows(options);
  install_stop_signals();
  const ordered_json report = report_of(run_load(load), options);
  print_report(report, options.json_output);
  return report["failed"] == 0 ? 0 : 1;
}

}  // namespace llama2zh
