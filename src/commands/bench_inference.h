#pragma once

#include <cstdint>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/base/random.h"
#include "llama2zh/engine/engine.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {

// A request of random tokens that answers with exactly `new_tokens`.
Request random_request(Random& random, int64_t vocab_size, int64_t prompt_tokens,
                       int64_t new_tokens);

struct EngineRun {
  double seconds = 0;
  std::vector<RequestResult> results;
};
// Submits the requests together and steps until all are answered. What failed is rethrown.
EngineRun run_requests(Engine& engine, const std::vector<Request>& requests);

// Loads, and takes the time.
struct TimedModel {
  LoadedModel loaded;
  double seconds = 0;
};
TimedModel load_timed(const LoadRequest& request);

// Model, type, device, threads, time to load: what every bench of inference reports first.
ordered_json bench_setting(const std::string& what, const std::string& path,
                           const TimedModel& model);
// Bytes of weights that a forward pass reads, however few its rows.
uint64_t pass_bytes(Llama& model);
// `length` more or less by up to `spread` of it, at least 1.
int64_t varied(Random& random, int64_t length, double spread);

// Four digits.
double rounded(double value);
// The value below which `share` of them are, e.g. 0.95.
double percentile(std::vector<double> values, double share);

}  // namespace llama2zh
