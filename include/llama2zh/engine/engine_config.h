#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "llama2zh/config/option.h"
#include "llama2zh/model/llama.h"

namespace llama2zh {

// How much an engine does at once and keeps.
struct EngineConfig {
  int64_t max_running = 32;
  int64_t max_step_tokens = 512;
  double kv_cache_gib = 0;
  std::string kv_dtype = "auto";
  bool prefix_cache = true;
  bool deterministic = false;
  std::string speculate = "none";
  int64_t speculative_tokens = 4;
  static auto options() {
    using T = EngineConfig;
    return std::tuple(
        option("max_running", &T::max_running, "Sequences that are answered at once, at most.",
               between(1, 4096)),
        option("max_step_tokens", &T::max_step_tokens,
               "Tokens in one forward pass, at most: one of each running sequence, the rest for "
               "prompts.",
               between(17, 1048576)),
        option("kv_cache_gib", &T::kv_cache_gib,
               "Memory for keys and values. 0: what max_running sequences of the whole context "
               "need, but no more than 4 GiB or one such sequence.",
               at_least(0)),
        option("kv_dtype", &T::kv_dtype,
               "Type of keys and values; auto: the one computed in; int8: with a scale for each "
               "token and head, half of bfloat16's memory.",
               one_of({"auto", "float32", "bfloat16", "int8"})),
        option("prefix_cache", &T::prefix_cache,
               "Keep keys and values of what was computed and use them for prompts that begin "
               "alike."),
        option("deterministic", &T::deterministic,
               "Products whose bits do not depend on what else is in the batch, so that an answer "
               "is the same alone and among others. Slower from some sixteen rows on; CPU only."),
        option("speculate", &T::speculate,
               "Guess at the next tokens and judge several in one pass; what is answered stays the "
               "same. lookup: by what followed such words before; draft: by draft_model.",
               one_of({"none", "lookup", "draft"})),
        option("speculative_tokens", &T::speculative_tokens, "Tokens that are guessed at once.",
               between(1, 64)));
  }
};

// The type that pages have under `config`.
at::ScalarType kv_type(const EngineConfig& config, const Llama& model);
// Blocks of 16 tokens that the cache has under `config`. kUsage where max_step_tokens leaves no room
// for prompts beside max_running, or the memory none for a single block.
// `draft`: has its own keys and values in each block; may be null.
int64_t kv_blocks(const EngineConfig& config, const Llama& model, const Llama* draft = nullptr);

}  // namespace llama2zh
