#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/engine/engine.h"
#include "llama2zh/engine/session.h"
#include "llama2zh/serve/serve_config.h"
#include "serve/admission.h"
#include "serve/deadlines.h"
#include "serve/metrics.h"

namespace llama2zh {

// A model that is ready, with the engine that answers for it and what all routes share. Thread-safe
// but for construction.
struct ServedModel {
  ServedModel(LoadedModel model, const EngineConfig& engine_config, const ServeConfig& serve_config,
              std::string model_name, std::string folder, Metrics& counters,
              std::function<void(std::function<void()>)> post_work);

  // The adapter that a request's "model" means: "" for the model itself. ApiFailure 404 for a name
  // that is neither.
  std::string adapter_of(const std::optional<std::string>& asked) const;
  int64_t context() const { return loaded.model->config.context_length(); }
  // The model's own sampling defaults are the API's, not the folder's.
  // Bytes of a text that may be tokenised: more can't fit into the context. ApiFailure 400 beyond.
  void check_size(size_t bytes, const char* param) const;
  const ChatTemplate& chat_template() const;  // ApiFailure 400 where there is none

  ServeConfig config;
  std::string name, root;
  int64_t created;           // Unix seconds
  size_t longest_piece = 1;  // bytes of a token
  Metrics* metrics;
  // Hands on what takes long, from a thread that must not wait for it. What is left when the server
  // ends is not done any more.
  std::function<void(std::function<void()>)> post;
  int64_t max_running;
  LoadedModel loaded;
  Admission admission;
  Engine engine;
  Deadlines deadlines;  // cancels requests of the engine
  EngineThread thread;  // last: it runs the engine
};

}  // namespace llama2zh
