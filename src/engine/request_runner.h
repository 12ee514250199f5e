#pragma once

#include <exception>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/request_state.h"
#include "engine/scheduler.h"
#include "engine/speculation.h"
#include "llama2zh/engine/engine.h"

namespace llama2zh {

// Takes requests through their steps to their ends and tells their listeners: what of the engine
// belongs to one thread at a time.
class RequestRunner {
 public:
  RequestRunner(const Llama& model, const Tokenizer& tokenizer, const EngineConfig& config,
                const Llama* draft = nullptr);

  void add(std::unique_ptr<RequestState> request);
  void cancel(RequestId request);  // nothing happens if it has ended
  void cancel_all();
  void step();
  bool idle() const { return requests_.empty(); }
  EngineStats stats() const;
  int64_t cache_tokens() const { return scheduler_.pool().size() * kBlockTokens; }

 private:
  // What became of one sequence in a step.
  struct Outcome {
    Sequence* sequence;
    int64_t row = 0, drafts = 0;   // of the logits: its first, and how many more are behind guesses
    std::vector<NewToken> tokens;  // one, and one more for each guess that was right
    std::exception_ptr error;
  };
  std::vector<Planned> plan_step();
  void compute(const std::vector<Planned>& plan);
  at::Tensor forward(const std::vector<Planned>& plan);
  void begin_others(RequestState& request, std::vector<Outcome>& outcomes);
  void look_up_drafts();
  void read_hidden(const std::vector<Planned>& plan, const at::Tensor& hidden);
  void step_beams(RequestState& request);
  void count_step(int64_t tokens);
  void count_drafts(const Outcome& outcome);
  static void choose(Outcome& outcome, const at::Tensor& logits);
  void deliver(Outcome& outcome);
  void finish_sequence(Sequence& sequence);
  void finish_request(RequestState& request);
  void end_request(RequestState& request, std::exception_ptr error);
  void end_requests(const std::vector<RequestId>& ids, const std::exception_ptr& error);
  void report_best(RequestState& request);
  void emit(RequestState& request, const RequestEvent& event);

  const Llama* model_;
  const Tokenizer* tokenizer_;
  bool deterministic_;
  Scheduler scheduler_;
  std::unique_ptr<DraftModel> draft_;
  std::map<RequestId, std::unique_ptr<RequestState>> requests_;
  std::vector<RequestId> unheard_;  // whose listener threw
  EngineStats counts_;
};

}  // namespace llama2zh
