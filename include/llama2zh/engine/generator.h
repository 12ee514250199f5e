#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "llama2zh/engine/engine.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

struct GenerationResult {
  std::string text;
  // Generated, without the EOS or stop id that ended it. A stop text's own tokens are among them
  // (it may begin inside a token), its characters are not in `text`.
  std::vector<TokenId> ids;
  int64_t prompt_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;
  std::string finish_reason;            // "stop" (EOS, stop id, stop text), "length", "cancelled"
  std::vector<Completion> completions;  // all n, of which the above is the first
  double prefill_seconds = 0, decode_seconds = 0;
};

// Called with each new piece of text as soon as it can't change (whole UTF-8 characters, nothing
// that may become a stop text), and with an empty text before and after each chunk of the prompt and
// after each token that releases nothing, so that cancelling never waits. Return false to cancel. All texts
// joined are GenerationResult::text.
using OnText = std::function<bool(std::string_view text)>;

// One sequence at a time: an Engine of its own, stepped by the caller. A prompt that begins as
// earlier ones did costs only the rest, from the last block of 16 tokens on. Not thread-safe.
class Generator {
 public:
  static constexpr int64_t kPrefillChunk = 256;  // prompt tokens in one forward pass at most

  // Both must outlive the generator. max_running: answers of one prompt, at most.
  Generator(const Llama& model, const Tokenizer& tokenizer,
            const EngineConfig& config = {.max_running = 1, .max_step_tokens = kPrefillChunk},
            const EngineParts& parts = {});
  // An empty prompt or one longer than max_position_embeddings - 1 is a kData error naming both
  // lengths; so are ids that the model lacks. max_new_tokens is cut to what the context leaves.
  // `continues`: see Request.
  GenerationResult generate(Request request, const OnText& on_text = {});
  GenerationResult generate(std::span<const TokenId> prompt, const SamplingConfig& config,
                            const std::vector<std::string>& extra_stops = {},
                            const OnText& on_text = {}, bool continues = false);

 private:
  Engine engine_;
};

}  // namespace llama2zh
