#pragma once

#include <string>
#include <tuple>

#include "llama2zh/config/option.h"

namespace llama2zh {

// What a run must not forget (ForgettingGuard): part of the "train" section.
struct GuardConfig {
  std::string guard_set;
  double guard_budget = 5;
  std::string guard_action = "warn";
  static auto options() {
    using T = GuardConfig;
    return std::tuple(
        option("guard_set", &T::guard_set,
               "Name of the validation set that must not get worse (English, while Chinese is "
               "learnt). It is evaluated before the first step too, and that loss is the measure "
               "(named on --resume only: the loss there); empty: none."),
        option("guard_budget", &T::guard_budget,
               "By how many percent the loss of guard_set may rise.", at_least(0)),
        option("guard_action", &T::guard_action,
               "Beyond the budget: warn at each evaluation, or stop, as early stopping does.",
               one_of({"warn", "stop"})));
  }
};

}  // namespace llama2zh
