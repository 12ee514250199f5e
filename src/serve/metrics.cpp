// Counters, gauges and histograms of prometheus-cpp's core (formats.md 5.9). What the engine counts is
// read from it when it is asked for; counters that prometheus-cpp can only raise are raised by the
// difference.
#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <mutex>
#include <vector>

#include "llama2zh/base/log_thread.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/block_pool.h"

namespace llama2zh {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;
using Labels = std::map<std::string, std::string>;

const Buckets kFirstToken = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                             1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
const Buckets kBetweenTokens = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
const Buckets kLatency = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                          30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Buckets kTokens = {1,   2,    5,    10,   20,    50,    100,   200,
                         500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
const Buckets kAnswers = {1, 2, 5, 10, 20};
const Buckets kStepTokens(EngineStats::kStepTokens.begin(), EngineStats::kStepTokens.end());

constexpr auto kPrefixes = std::to_array<const char*>({"llama2zh:", "vllm:"});

// One fact under our name and vLLM's.
template <typename Metric>
struct Twice {
  std::vector<Metric*> both;
  template <typename Function>
  void each(const Function& function) const {
    for (Metric* metric : both) function(*metric);
  }
};
using Counter = Twice<prometheus::Counter>;
using Gauge = Twice<prometheus::Gauge>;
using Histogram = Twice<prometheus::Histogram>;

void observe(const Histogram& histogram, double value) {
  histogram.each([value](prometheus::Histogram& one) { one.Observe(value); });
}
void set(const Gauge& gauge, double value) {
  gauge.each([value](prometheus::Gauge& one) { one.Set(value); });
}
void raise_to(const Counter& counter, double value) {
  counter.each([value](prometheus::Counter& one) {
    if (value > one.Value()) one.Increment(value - one.Value());
  });
}
void raise(const Counter& counter, double by) {
  counter.each([by](prometheus::Counter& one) { one.Increment(by); });
}

}  // namespace

struct Metrics::Implementation {
  explicit Implementation(const std::string& name)
      : labels{{"model_name", name}, {"engine", "0"}} {}

  // `Build` is prometheus::BuildCounter and such.
  template <typename Metric, typename Build, typename... More>
  Twice<Metric> add(const Build& build, const std::string& name, const std::string& help,
                    const Labels& extra, const More&... more) {
    Labels all = labels;
    all.insert(extra.begin(), extra.end());
    Twice<Metric> out;
    for (const std::string prefix : kPrefixes)
      out.both.push_back(
          &build().Name(prefix + name).Help(help).Register(registry).Add(all, more...));
    return out;
  }
  Counter counter(const std::string& name, const std::string& help, const Labels& extra = {}) {
    return add<prometheus::Counter>(prometheus::BuildCounter, name, help, extra);
  }
  Gauge gauge(const std::string& name, const std::string& help) {
    return add<prometheus::Gauge>(prometheus::BuildGauge, name, help, {});
  }
  Histogram histogram(const std::string& name, const std::string& help, const Buckets& buckets) {
    return add<prometheus::Histogram>(prometheus::BuildHistogram, name, help, {}, buckets);
  }

  // A fact that labels tell: the one of before makes room for this one.
  void tell(const std::string& name, const std::string& help, const Labels& said, double value,
            Gauge& before) {
    for (size_t i = 0; i < before.both.size(); ++i)
      before_family(name, help, i).Remove(before.both[i]);
    before = add<prometheus::Gauge>(prometheus::BuildGauge, name, help, said);
    set(before, value);
  }
  prometheus::Family<prometheus::Gauge>& before_family(const std::string& name,
                                                       const std::string& help, size_t which) {
    return prometheus::BuildGauge().Name(kPrefixes[which] + name).Help(help).Register(registry);
  }
  // What has been added to the engine's counts of steps since the last time.
  void take_steps(const EngineStats& engine) {
    std::vector<double> more;
    for (size_t i = 0; i < engine.steps_by_tokens.size(); ++i)
      more.push_back(static_cast<double>(engine.steps_by_tokens[i] - steps_by_tokens[i]));
    const auto tokens = static_cast<double>(engine.step_tokens - step_tokens);
    iteration_tokens.each([&](prometheus::Histogram& one) { one.ObserveMultiple(more, tokens); });
    steps_by_tokens = engine.steps_by_tokens;
    step_tokens = engine.step_tokens;
  }

  Labels labels;
  prometheus::Registry registry;
  mutable std::mutex mutex;  // of text(): what the engine counts is read once at a time

  Gauge running = gauge("num_requests_running", "Sequences that are being answered.");
  Gauge waiting = gauge("num_requests_waiting", "Sequences that wait.");
  Gauge kv_usage =
      gauge("kv_cache_usage_perc", "Share of the key and value blocks in use, 0 to 1.");
  // As older vLLMs named it.
  Gauge older_kv_usage =
      gauge("gpu_cache_usage_perc", "Share of the key and value blocks in use, 0 to 1.");
  Gauge cache, adapters;  // told by their labels
  Gauge open_connections = gauge("open_connections", "Connections of clients.");
  Counter prompt_tokens = counter("prompt_tokens_total", "Prompt tokens computed.");
  Counter generated_tokens = counter("generation_tokens_total", "Tokens generated.");
  Counter preemptions = counter("num_preemptions_total", "Sequences that lost their blocks.");
  Counter prefix_queries = counter("prefix_cache_queries_total", "Prompt tokens looked for.");
  Counter prefix_hits = counter("prefix_cache_hits_total", "Of them found in the prefix cache.");
  Counter drafted = counter("spec_decode_num_draft_tokens_total", "Tokens guessed ahead.");
  Counter accepted = counter("spec_decode_num_accepted_tokens_total", "Of them right.");
  Counter lost_lines =
      counter("log_lines_lost_total", "Lines of the log that standard error was too slow for.");
  Counter refused = counter("requests_refused_total", "Requests refused for want of room (429).");
  std::map<std::string, Counter> finished = {
      {"stop", counter("request_success_total", "Answers by how they ended.",
                       {{"finished_reason", "stop"}})},
      {"length", counter("request_success_total", "Answers by how they ended.",
                         {{"finished_reason", "length"}})},
      {"abort", counter("request_success_total", "Answers by how they ended.",
                        {{"finished_reason", "abort"}})}};
  Histogram first_token =
      histogram("time_to_first_token_seconds", "From arrival to the first token.", kFirstToken);
  Histogram between_tokens =
      histogram("inter_token_latency_seconds", "Between two tokens of an answer.", kBetweenTokens);
  // The name that it had in older vLLMs, which many dashboards still ask for.
  Histogram older_between_tokens = histogram("time_per_output_token_seconds",
                                             "Between two tokens of an answer.", kBetweenTokens);
  Histogram whole = histogram("e2e_request_latency_seconds", "From arrival to the end.", kLatency);
  Histogram queued = histogram("request_queue_time_seconds", "Waiting to be begun.", kLatency);
  Histogram inference =
      histogram("request_inference_time_seconds", "From its beginning to the end.", kLatency);
  Histogram prefill =
      histogram("request_prefill_time_seconds", "From its beginning to the first token.", kLatency);
  Histogram decode =
      histogram("request_decode_time_seconds", "From the first token to the end.", kLatency);
  Histogram prompts = histogram("request_prompt_tokens", "Tokens of a prompt.", kTokens);
  Histogram answers = histogram("request_generation_tokens", "Tokens of all answers.", kTokens);
  Histogram longest = histogram("request_max_num_generation_tokens",
                                "Tokens of a request's longest answer.", kTokens);
  Histogram mean_between = histogram("request_time_per_output_token_seconds",
                                     "Between two tokens, the mean of a request.", kBetweenTokens);
  Histogram iteration_tokens =
      histogram("iteration_tokens_total", "Tokens computed in a step.", kStepTokens);
  decltype(EngineStats::steps_by_tokens) steps_by_tokens{};  // that these have already
  int64_t step_tokens = 0;
  Histogram most = histogram("request_params_max_tokens", "max_tokens of a request.", kTokens);
  Histogram n = histogram("request_params_n", "n of a request.", kAnswers);
};

Metrics::Metrics(const std::string& model_name)
    : implementation_(std::make_unique<Implementation>(model_name)) {}
Metrics::~Metrics() = default;

void Metrics::count_request(const std::string& route, int status) {
  prometheus::BuildCounter()
      .Name("llama2zh:http_requests_total")
      .Help("Requests by route and status.")
      .Register(implementation_->registry)
      .Add({{"route", route}, {"status", std::to_string(status)}})
      .Increment();
}

void Metrics::observe_first_token(double seconds) {
  observe(implementation_->first_token, seconds);
}

void Metrics::observe_between_tokens(double seconds) {
  observe(implementation_->between_tokens, seconds);
  observe(implementation_->older_between_tokens, seconds);
}

void Metrics::observe_end(const RequestResult& result, int64_t max_new_tokens, int64_t n) {
  Implementation& all = *implementation_;
  const bool whole = !result.error && !result.cancelled;
  int64_t longest = 0;
  for (const Completion& completion : result.completions) {
    longest = std::max<int64_t>(longest, std::ssize(completion.ids));
    if (whole) raise(all.finished.at(completion.finish_reason == "stop" ? "stop" : "length"), 1);
  }
  if (!whole) raise(all.finished.at("abort"), 1);
  observe(all.whole, result.total_seconds);
  observe(all.queued, result.queued_seconds);
  observe(all.inference, result.total_seconds - result.queued_seconds);
  if (result.first_token_seconds > 0) {
    observe(all.prefill, result.first_token_seconds - result.queued_seconds);
    const double decode = result.total_seconds - result.first_token_seconds;
    observe(all.decode, decode);
    if (longest > 1) observe(all.mean_between, decode / static_cast<double>(longest - 1));
  }
  observe(all.prompts, static_cast<double>(result.prompt_tokens));
  observe(all.answers, static_cast<double>(result.generated_tokens));
  observe(all.longest, static_cast<double>(longest));
  observe(all.most, static_cast<double>(max_new_tokens));
  observe(all.n, static_cast<double>(n));
}

std::string Metrics::text(const EngineStats* engine, int64_t connections, int64_t refusals) const {
  Implementation& all = *implementation_;
  const std::lock_guard lock(all.mutex);
  set(all.open_connections, static_cast<double>(connections));
  raise_to(all.refused, static_cast<double>(refusals));
  raise_to(all.lost_lines, static_cast<double>(lost_log_lines()));
  if (engine != nullptr) {
    set(all.running, static_cast<double>(engine->running));
    set(all.waiting, static_cast<double>(engine->waiting));
    const double usage = static_cast<double>(engine->used_blocks) /
                         static_cast<double>(std::max<int64_t>(1, engine->blocks));
    set(all.kv_usage, usage);
    set(all.older_kv_usage, usage);
    all.tell("cache_config_info", "Blocks of keys and values (labels).",
             {{"block_size", std::to_string(kBlockTokens)},
              {"num_gpu_blocks", std::to_string(engine->blocks)}},
             1, all.cache);
    all.tell("lora_requests_info", "Adapters whose requests run and wait (labels), at this time.",
             {{"running_lora_adapters", join(engine->running_adapters, ",")},
              {"waiting_lora_adapters", join(engine->waiting_adapters, ",")}},
             static_cast<double>(std::time(nullptr)), all.adapters);
    all.take_steps(*engine);
    raise_to(all.prompt_tokens, static_cast<double>(engine->prompt_tokens));
    raise_to(all.generated_tokens, static_cast<double>(engine->generated_tokens));
    raise_to(all.preemptions, static_cast<double>(engine->preemptions));
    raise_to(all.prefix_queries, static_cast<double>(engine->queried_prompt_tokens));
    raise_to(all.prefix_hits, static_cast<double>(engine->cached_prompt_tokens));
    raise_to(all.drafted, static_cast<double>(engine->drafted_tokens));
    raise_to(all.accepted, static_cast<double>(engine->accepted_tokens));
  }
  return prometheus::TextSerializer().Serialize(all.registry.Collect());
}

}  // namespace llama2zh
