#include "llama2zh/train/forgetting_guard.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

ForgettingGuard::ForgettingGuard(const GuardConfig& config, int64_t eval_steps,
                                 const std::vector<std::string>& sets)
    : config_(config) {
  if (!watches()) return;
  if (std::find(sets.begin(), sets.end(), config.guard_set) == sets.end()) {
    const std::string near = nearest(config.guard_set, sets);
    fail_usage("train.guard_set",
               sets.empty() ? "there is nothing to evaluate"
                            : cat("\"", config.guard_set,
                                  "\" is no validation set; expected one of ", join(sets, ", ")),
               sets.empty()   ? "set data.validation_files"
               : near.empty() ? ""
                              : cat("did you mean ", near, "?"));
  }
  if (eval_steps == 0)
    fail_usage("train.guard_set", "nothing is evaluated on the way", "set train.eval_steps");
}

void ForgettingGuard::begin(GuardState& state, int64_t step) const {
  state = {std::nullopt, std::nullopt, step, config_.guard_set};
}

void ForgettingGuard::update(GuardState& state, const std::vector<EvalResult>& results) const {
  for (const EvalResult& result : results) {
    if (result.name != config_.guard_set) continue;
    state.now = result.loss;
    if (!state.before) state.before = result.loss;
  }
}

double ForgettingGuard::rise(const GuardState& state) const {
  if (!state.before || !state.now) return 0;
  if (!std::isfinite(*state.now)) return std::numeric_limits<double>::infinity();
  return 100 * (*state.now / *state.before - 1);
}

bool ForgettingGuard::over_budget(const GuardState& state) const {
  return watches() && rise(state) > config_.guard_budget;
}

std::string ForgettingGuard::describe(const GuardState& state) const {
  std::ostringstream text;
  text << std::fixed << config_.guard_set << ": loss " << std::setprecision(4)
       << state.now.value_or(0) << ", " << std::showpos << std::setprecision(1) << rise(state)
       << std::noshowpos << " % of the " << std::setprecision(4) << state.before.value_or(0)
       << (state.since == 0 ? std::string(" at the beginning") : cat(" at step ", state.since))
       << " (budget " << std::defaultfloat << config_.guard_budget << " %)";
  return text.str();
}

}  // namespace llama2zh
