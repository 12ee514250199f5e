#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "llama2zh/engine/adapter_registry.h"
#include "llama2zh/engine/engine_config.h"
#include "llama2zh/engine/request.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// Counts since the start, and what is there now.
struct EngineStats {
  static constexpr auto kStepTokens =
      std::to_array<int64_t>({1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384});

  int64_t running = 0, waiting = 0;  // sequences
  int64_t blocks = 0, used_blocks = 0;
  int64_t steps = 0, preemptions = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0;
  int64_t queried_prompt_tokens = 0;                // looked for in the prefix cache
  int64_t cached_prompt_tokens = 0;                 // of these, found: not computed
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // guessed ahead, and of these right
  int64_t finished = 0, failed = 0, cancelled = 0;  // requests
  // Steps of at most so many tokens as kStepTokens says, and of more; their tokens in all.
  std::array<int64_t, kStepTokens.size() + 1> steps_by_tokens{};
  int64_t step_tokens = 0;
  std::vector<std::string> running_adapters, waiting_adapters;  // of requests, each name once
};

// What an engine can use beside the model; all must outlive it.
struct EngineParts {
  const AdapterRegistry* adapters = nullptr;  // those that requests name
  const Llama* draft = nullptr;               // for speculate = "draft": of the same vocabulary
};

// Answers many requests at once on one model. Each step is one forward pass over a token of every
// running sequence and over parts of waiting prompts (continuous batching, chunked prefill); keys and
// values live in blocks that sequences with the same beginning share. Where blocks run out, the
// sequence that came last among those of the lowest priority gives its blocks back and is computed
// anew later; its answer stays the same.
//
// submit(), cancel(), stats() may be called from any thread. step() belongs to one thread at a time:
// the caller's, or run()'s.
class Engine {
 public:
  // Model and tokenizer must outlive the engine; the model's weights must not change.
  Engine(const Llama& model, const Tokenizer& tokenizer, const EngineConfig& config = {},
         const EngineParts& parts = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Makes what following a constraint takes, and keeps it for requests that come with it. kUsage or
  // kFormat as constraint_grammar().
  void prepare(const Constraint& constraint) const;

  // Queues a request; events follow from the stepping thread. Errors of the request itself come at
  // once: kData for a prompt that is empty, longer than the context or the whole cache allow, or has
  // ids that the model lacks, and for an adapter that is not there; kUsage for its options. max_new_tokens is cut to what context and
  // cache leave.
  RequestId submit(Request request, OnEvent on_event);
  // Ends the request before the next step, wherever it is, and frees what it holds. Its last event
  // still comes, with what there is. Nothing happens if it has ended.
  void cancel(RequestId request);

  // One forward pass and what follows from it. False if there is nothing to do any more.
  bool step();
  // Steps until stop() is called, waiting where there is nothing to do. On the way out all requests
  // are cancelled.
  void run();
  void stop();

  EngineStats stats() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

// A thread that runs the engine, for as long as this object lives.
class EngineThread {
 public:
  explicit EngineThread(Engine& engine) : engine_(&engine), thread_([&engine] { engine.run(); }) {}
  ~EngineThread() {
    engine_->stop();
    thread_.join();
  }
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

 private:
  Engine* engine_;
  std::thread thread_;
};

}  // namespace llama2zh
