#pragma once

#include <tuple>

#include "llama2zh/config/option.h"

namespace llama2zh {

// How the ranks of a run work together; the "distributed" section. Without effect on one rank.
struct DistributedConfig {
  double timeout_seconds = 1800;
  static auto options() {
    return std::tuple(option(
        "timeout_seconds", &DistributedConfig::timeout_seconds,
        "How long a rank waits for the others, to start and in each exchange, before it ends "
        "with an error that says for whom and what for.",
        between(1, 1e6)));
  }
};

}  // namespace llama2zh
