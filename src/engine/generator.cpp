#include "llama2zh/engine/generator.h"

#include <exception>
#include <utility>

namespace llama2zh {
namespace {

// Hands events on to `on_text` and remembers what it said.
struct Listener {
  const OnText* on_text;
  std::string released;
  RequestResult result;
  bool ended = false, refused = false;
  std::exception_ptr thrown;

  void tell(const std::string& text) {
    if (!*on_text || refused) return;
    try {
      refused = !(*on_text)(text);
    } catch (...) {
      thrown = std::current_exception();
      refused = true;
    }
  }
  void take(const RequestEvent& event) {
    if (event.result != nullptr) {
      result = *event.result;
      ended = true;
      return;
    }
    if (refused || event.index != 0) return;  // the first answer streams
    released += event.text;
    tell(event.text);
  }
};

GenerationResult result_of(Listener& listener) {
  if (listener.thrown) std::rethrow_exception(listener.thrown);
  if (listener.result.error) std::rethrow_exception(listener.result.error);
  const Completion& completion = listener.result.completions.front();
  GenerationResult out;
  out.text = listener.refused ? listener.released : completion.text;
  out.ids = completion.ids;
  out.prompt_tokens = listener.result.prompt_tokens;
  out.drafted_tokens = listener.result.drafted_tokens;
  out.accepted_tokens = listener.result.accepted_tokens;
  out.finish_reason = listener.refused ? "cancelled" : completion.finish_reason;
  const double first = listener.result.first_token_seconds;
  out.prefill_seconds = first > 0 ? first : listener.result.total_seconds;
  out.decode_seconds = listener.result.total_seconds - out.prefill_seconds;
  out.completions = std::move(listener.result.completions);
  return out;
}

}  // namespace

Generator::Generator(const Llama& model, const Tokenizer& tokenizer, const EngineConfig& config,
                     const EngineParts& parts)
    : engine_(model, tokenizer, config, parts) {}

GenerationResult Generator::generate(std::span<const TokenId> prompt, const SamplingConfig& config,
                                     const std::vector<std::string>& extra_stops,
                                     const OnText& on_text, bool continues) {
  Request request;
  request.prompt.assign(prompt.begin(), prompt.end());
  request.sampling = config;
  request.extra_stops = extra_stops;
  request.continues = continues;
  return generate(std::move(request), on_text);
}

GenerationResult Generator::generate(Request request, const OnText& on_text) {
  Listener listener{&on_text};
  bool told = false;  // in this step
  listener.tell({});
  const RequestId id = engine_.submit(std::move(request), [&](const RequestEvent& event) {
    listener.take(event);
    told = true;
  });
  while (!listener.ended) {
    if (listener.refused) engine_.cancel(id);
    told = false;
    engine_.step();
    if (!told) listener.tell({});  // a chunk of the prompt
  }
  return result_of(listener);
}

}  // namespace llama2zh
