// The engine's outside: requests and cancellations wait in a mailbox until the stepping thread takes
// them at the beginning of a step; what a step does is RequestRunner's.
#include "llama2zh/engine/engine.h"

#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/request_runner.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

namespace {

// The draft model where it is asked for; kUsage if there is none, or one of another vocabulary.
const Llama* used_draft(const Llama& model, const EngineConfig& config, const EngineParts& parts) {
  if (config.speculate != "draft") return nullptr;
  if (parts.draft == nullptr)
    fail_usage("speculate", "to guess by a draft model there must be one",
               "name it with --draft-model DIR, or take --speculate lookup");
  if (parts.draft->config.vocab_size != model.config.vocab_size) {
    fail_usage("draft_model",
               cat("it has a vocabulary of ", parts.draft->config.vocab_size, ", the model one of ",
                   model.config.vocab_size),
               "a draft model must have the model's own vocabulary");
  }
  return parts.draft;
}

}  // namespace

class Engine::Implementation {
 public:
  Implementation(const Llama& model, const Tokenizer& tokenizer, const EngineConfig& config,
                 const EngineParts& parts)
      : model_(&model),
        tokenizer_(&tokenizer),
        parts_(parts),
        config_(config),
        constraints_(tokenizer),
        max_running_(config.max_running),
        runner_(model, tokenizer, config, used_draft(model, config, parts)),
        stats_(runner_.stats()) {}

  void prepare(const Constraint& constraint) { constraints_.get(constraint); }

  RequestId submit(Request request, OnEvent on_event) {
    auto state = std::make_unique<RequestState>(std::move(request), std::move(on_event), *model_,
                                                *tokenizer_, runner_.cache_tokens(), max_running_);
    if (!state->request.adapter.empty()) {
      if (parts_.adapters == nullptr)
        fail_data("adapter", cat("\"", state->request.adapter, "\": this engine has none"));
      state->adapter = parts_.adapters->find(state->request.adapter);
    }
    if (state->request.constraint)
      state->set_constraint(constraints_.get(state->request.constraint));
    if (config_.speculate != "none") {
      const int64_t asked = state->request.speculative_tokens;
      state->drafts = asked < 0 ? config_.speculative_tokens : asked;
      state->draft_model = config_.speculate == "draft" && state->drafts > 0;
    }
    const std::lock_guard lock(mutex_);
    state->id = ++last_id_;
    submitted_.push_back(std::move(state));
    mail_.notify_one();
    return last_id_;
  }

  void cancel(RequestId request) {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(request);
    mail_.notify_one();
  }

  bool step() {
    take_mail();
    runner_.step();
    const std::lock_guard lock(mutex_);
    stats_ = runner_.stats();
    return !runner_.idle() || has_mail();
  }

  void run() {
    while (!stopping()) {
      if (step()) continue;
      std::unique_lock lock(mutex_);
      mail_.wait(lock, [&] { return stopping_ || has_mail(); });
    }
    take_mail();
    runner_.cancel_all();
    const std::lock_guard lock(mutex_);
    stats_ = runner_.stats();
  }

  void stop() {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    mail_.notify_all();
  }

  EngineStats stats() const {
    const std::lock_guard lock(mutex_);
    EngineStats out = stats_;
    out.waiting += std::ssize(submitted_);
    return out;
  }

 private:
  bool has_mail() const { return !submitted_.empty() || !cancelled_.empty(); }
  bool stopping() const {
    const std::lock_guard lock(mutex_);
    return stopping_;
  }
  void take_mail() {
    std::vector<std::unique_ptr<RequestState>> submitted;
    std::vector<RequestId> cancelled;
    {
      const std::lock_guard lock(mutex_);
      submitted.swap(submitted_);
      cancelled.swap(cancelled_);
    }
    for (auto& state : submitted) runner_.add(std::move(state));
    for (const RequestId id : cancelled) runner_.cancel(id);
  }

  const Llama* model_;
  const Tokenizer* tokenizer_;
  EngineParts parts_;
  EngineConfig config_;
  ConstraintCache constraints_;
  int64_t max_running_;
  RequestRunner runner_;  // the stepping thread's

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable mail_;
  std::vector<std::unique_ptr<RequestState>> submitted_;
  std::vector<RequestId> cancelled_;
  RequestId last_id_ = 0;
  bool stopping_ = false;
  EngineStats stats_;
};

Engine::Engine(const Llama& model, const Tokenizer& tokenizer, const EngineConfig& config,
               const EngineParts& parts)
    : implementation_(std::make_unique<Implementation>(model, tokenizer, config, parts)) {}
Engine::~Engine() = default;
void Engine::prepare(const Constraint& constraint) const { implementation_->prepare(constraint); }
RequestId Engine::submit(Request request, OnEvent on_event) {
  return implementation_->submit(std::move(request), std::move(on_event));
}
void Engine::cancel(RequestId request) { implementation_->cancel(request); }
bool Engine::step() { return implementation_->step(); }
void Engine::run() { implementation_->run(); }
void Engine::stop() { implementation_->stop(); }
EngineStats Engine::stats() const { return implementation_->stats(); }

}  // namespace llama2zh
