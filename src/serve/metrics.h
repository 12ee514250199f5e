#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "llama2zh/engine/engine.h"

namespace llama2zh {

// What /metrics tells, in Prometheus' text format. Every name is there twice, as llama2zh:... and
// as vLLM's (vllm:...), so that its dashboards work. Thread-safe.
class Metrics {
 public:
  explicit Metrics(const std::string& model_name);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void count_request(const std::string& route, int status);
  void observe_first_token(double seconds);
  void observe_between_tokens(double seconds);
  void observe_end(const RequestResult& result, int64_t max_new_tokens, int64_t n);

  // engine: null while the model is loading.
  std::string text(const EngineStats* engine, int64_t connections, int64_t refusals) const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace llama2zh
