#pragma once

#include <string>
#include <tuple>

#include "llama2zh/config/option.h"

namespace llama2zh {

// What is learnt from pairs of answers; the "preference" section, for `llama2zh dpo`.
struct PreferenceConfig {
  std::string loss = "sigmoid";
  double beta = 0.1;
  double label_smoothing = 0;
  double simpo_gamma = 0.5;
  std::string reference = "start";
  static auto options() {
    return std::tuple(
        option("loss", &PreferenceConfig::loss,
               "dpo: sigmoid (DPO), ipo, hinge (SLiC), kto_pair: against a reference; orpo, simpo: "
               "without one. ipo, orpo and simpo take the mean log-probability of an answer's "
               "tokens, the others the sum.",
               one_of({"sigmoid", "ipo", "hinge", "kto_pair", "orpo", "simpo"})),
        option("beta", &PreferenceConfig::beta,
               "dpo: how strongly a log-probability counts as a reward (ipo: tau; orpo: weight of "
               "the odds ratio).",
               greater_than(0)),
        option("label_smoothing", &PreferenceConfig::label_smoothing,
               "dpo, sigmoid and simpo: the chance that a pair is the wrong way round.",
               in_half_open(0, 0.5)),
        option("simpo_gamma", &PreferenceConfig::simpo_gamma,
               "dpo, simpo: the margin that rewards should have.", at_least(0)),
        option("reference", &PreferenceConfig::reference,
               "dpo: the model that rewards are measured against. start: as training begins, which "
               "is the base for a new adapter (its update is 0) and base + adapter for one that is "
               "continued; base: without any adapter.",
               one_of({"start", "base"})));
  }
};

}  // namespace llama2zh
