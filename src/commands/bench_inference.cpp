// What the benches of inference share.
#include "commands/bench_inference.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "llama2zh/base/signals.h"
#include "llama2zh/model/load.h"

namespace llama2zh {

Request random_request(Random& random, int64_t vocab_size, int64_t prompt_tokens,
                       int64_t new_tokens) {
  Request request;
  for (int64_t i = 0; i < prompt_tokens; ++i) {  // ids 0 to 2 are the special ones
    request.prompt.push_back(
        static_cast<TokenId>(3 + random.below(static_cast<uint64_t>(vocab_size - 3))));
  }
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  request.sampling.max_new_tokens = new_tokens;
  return request;
}

EngineRun run_requests(Engine& engine, const std::vector<Request>& requests) {
  EngineRun run;
  const auto start = std::chrono::steady_clock::now();
  for (const Request& request : requests) {
    engine.submit(request, [&run](const RequestEvent& event) {
      if (event.result != nullptr) run.results.push_back(*event.result);
    });
  }
  while (engine.step()) throw_if_stopped();
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const RequestResult& result : run.results)
    if (result.error) std::rethrow_exception(result.error);
  return run;
}

TimedModel load_timed(const LoadRequest& request) {
  const auto start = std::chrono::steady_clock::now();
  TimedModel model{load_for_inference(request), 0};
  model.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return model;
}

ordered_json bench_setting(const std::string& what, const std::string& path,
                           const TimedModel& model) {
  const Llama& llama = *model.loaded.model;
  return {{"what", what},
          {"model", std::filesystem::path(path).filename().string()},
          {"dtype", dtype_name(llama.compute_dtype())},
          {"device", llama.device().str()},
          {"threads", at::get_num_threads()},
          {"load_s", rounded(model.seconds)}};
}

uint64_t pass_bytes(Llama& model) {
  uint64_t bytes = 0;
  const auto add = [&](const std::string&, const Linear& linear) {
    bytes += linear.operators   ? linear.operators->bytes()
             : linear.quantized ? linear.quantized->bytes()
                                : linear.weight.nbytes();
  };
  model.for_each_projection(add);
  add("lm_head", model.lm_head);
  return bytes;
}

double rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return std::strtod(text, nullptr);
}

int64_t varied(Random& random, int64_t length, double spread) {
  const double factor = 1 + spread * (2 * random.uniform() - 1);
  return std::max<int64_t>(1, std::llround(static_cast<double>(length) * factor));
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(std::lround(share * last))];
}

}  // namespace llama2zh
