#pragma once

#include <optional>
#include <string>
#include <vector>

#include "llama2zh/train/evaluate.h"
#include "llama2zh/train/guard_config.h"

namespace llama2zh {

// What it knows; a part of the training state.
struct GuardState {
  // The set's loss where the run began to watch it: before the first step or, where a resumed run
  // names it anew, at step `since`.
  std::optional<double> before;
  std::optional<double> now;  // at the last evaluation
  int64_t since = 0;
  std::string set;  // empty in older checkpoints
};

// Watches what a model forgets while it learns something else.
class ForgettingGuard {
 public:
  // kUsage if the options name a set that is not among `sets`, or nothing is evaluated on the way.
  ForgettingGuard(const GuardConfig& config, int64_t eval_steps,
                  const std::vector<std::string>& sets);

  bool watches() const { return !config_.guard_set.empty(); }
  // Whether `state` has no measure of this set yet.
  bool is_new(const GuardState& state) const {
    return watches() && (!state.before || (!state.set.empty() && state.set != config_.guard_set));
  }
  void begin(GuardState& state, int64_t step) const;  // the next update() is the measure
  void update(GuardState& state, const std::vector<EvalResult>& results) const;
  // Percent by which the loss has risen; 0 before a second evaluation.
  double rise(const GuardState& state) const;
  bool over_budget(const GuardState& state) const;
  bool stops(const GuardState& state) const {
    return config_.guard_action == "stop" && over_budget(state);
  }
  // "en_heldout: loss 2.5123, +3.2 % of the 2.4344 at the beginning (budget 5 %)"
  std::string describe(const GuardState& state) const;

 private:
  GuardConfig config_;
};

}  // namespace llama2zh
