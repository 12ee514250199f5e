// Perplexity over windows of BOS + text. The last token of a window is only a target, so it never goes
// in. The head runs over kHeadRows positions at a time: logits of a whole window over 50,000 pieces
// would take a gigabyte.
#include "llama2zh/eval/perplexity.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/eval/standard_error.h"

namespace llama2zh {
namespace {

constexpr int64_t kHeadRows = 128;

at::Tensor to_tensor(std::span<const TokenId> ids, at::Device device) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(ids.size())}, at::kLong);
  std::copy(ids.begin(), ids.end(), tensor.data_ptr<int64_t>());
  return tensor.to(device);
}

// Of `targets` as the continuations of the last targets.size() positions of `inputs`.
std::vector<double> window_nll(const Llama& model, std::span<const TokenId> inputs,
                               std::span<const TokenId> targets) {
  const at::NoGradGuard no_grad;
  const auto length = static_cast<int64_t>(inputs.size());
  const auto scored = static_cast<int64_t>(targets.size());
  PackedSequences context(length, model.device());
  const at::Tensor hidden =
      model.forward(to_tensor(inputs, model.device()), context).narrow(0, length - scored, scored);
  const at::Tensor wanted = to_tensor(targets, model.device());
  std::vector<double> all;
  for (int64_t row = 0; row < scored; row += kHeadRows) {
    const int64_t rows = std::min(kHeadRows, scored - row);
    const at::Tensor logits = model.logits(hidden.narrow(0, row, rows));
    const at::Tensor at_target = logits.gather(1, wanted.narrow(0, row, rows).unsqueeze(1));
    const at::Tensor nll =
        (at::logsumexp(logits, 1) - at_target.squeeze(1)).to(at::kDouble).cpu().contiguous();
    all.insert(all.end(), nll.const_data_ptr<double>(), nll.const_data_ptr<double>() + rows);
  }
  return all;
}

// Special tokens but the unknown one, which stands for a character.
bool is_no_text(const Tokenizer& tokenizer, TokenId id) {
  return tokenizer.is_special(id) && id != tokenizer.unk_id();
}

void add_window(PerplexityResult& result, const Tokenizer& tokenizer,
                std::span<const TokenId> targets, const std::vector<double>& nll) {
  result.tokens += static_cast<int64_t>(targets.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    result.nll += nll[i];
    result.nll_squares += nll[i] * nll[i];
    if (!is_no_text(tokenizer, targets[i])) continue;
    ++result.special_tokens;
    result.special_nll += nll[i];
    result.special_squares += nll[i] * nll[i];
  }
}

// A window of the stream [begin, end), of which [scored, end) count; BOS may take its first token's place.
struct Window {
  size_t begin, scored, end;
  bool bos_first = false;
};

std::vector<Window> windows_of(size_t size, const PerplexityRule& rule) {
  const auto width = static_cast<size_t>(rule.window), step = static_cast<size_t>(rule.stride);
  std::vector<Window> windows;
  if (rule.protocol == PerplexityProtocol::kLlamaCpp) {
    for (size_t begin = 0; begin + width <= size; begin += width)
      windows.push_back({begin, begin + width / 2 + 1, begin + width, true});
  } else if (rule.protocol == PerplexityProtocol::kWindows && step == width) {
    // The token before the first target gives its place to BOS.
    for (size_t begin = 0; begin + 1 < size; begin += width)
      windows.push_back({begin, begin + 1, std::min(begin + 1 + width, size), true});
  } else {
    size_t scored = 0;
    for (size_t begin = 0; scored < size; begin += step) {
      const size_t end = std::min(begin + width, size);
      windows.push_back({begin, std::max(scored, begin + 1), end});
      scored = end;
    }
  }
  return windows;
}

}  // namespace

void check_rule(const PerplexityRule& rule, const LlamaConfig& config) {
  const int64_t window = rule.window, stride = rule.stride;
  if (window < 2 || window > config.context_length()) {
    fail_usage("window", cat("is ", window, ", must be between 2 and the model's context of ",
                             config.context_length()));
  }
  if (stride < 1 || stride > window)
    fail_usage("stride", cat("is ", stride, ", must be between 1 and the window of ", window));
  if (rule.protocol == PerplexityProtocol::kLlamaCpp && stride != window)
    fail_usage("stride", cat("is ", stride, ": protocol llama.cpp knows no overlap"),
               "leave it out, or choose protocol hf");
}

double PerplexityResult::standard_error() const { return error_of_mean(tokens, nll, nll_squares); }
double PerplexityResult::perplexity() const { return std::exp(nll_per_token()); }

double PerplexityResult::text_bits() const {
  return (nll - special_nll) / std::numbers::ln2 *
         static_cast<double>(text_tokens - special_text_tokens) /
         static_cast<double>(tokens - special_tokens);
}
double PerplexityResult::text_bits_error() const {
  return error_of_mean(tokens - special_tokens, nll - special_nll, nll_squares - special_squares) /
         std::numbers::ln2 * static_cast<double>(text_tokens - special_text_tokens);
}
double PerplexityResult::bits_per_character() const {
  return text_bits() / static_cast<double>(characters);
}
double PerplexityResult::bits_per_byte() const { return text_bits() / static_cast<double>(bytes); }
double PerplexityResult::bits_per_character_error() const {
  return text_bits_error() / static_cast<double>(characters);
}
double PerplexityResult::bits_per_byte_error() const {
  return text_bits_error() / static_cast<double>(bytes);
}

void PerplexityResult::add(const PerplexityResult& part) {
  tokens += part.tokens;
  text_tokens += part.text_tokens;
  characters += part.characters;
  bytes += part.bytes;
  nll += part.nll;
  nll_squares += part.nll_squares;
  special_tokens += part.special_tokens;
  special_text_tokens += part.special_text_tokens;
  special_nll += part.special_nll;
  special_squares += part.special_squares;
}

PerplexityResult measure_perplexity(const Llama& model, const Tokenizer& tokenizer,
                                    std::span<const TokenId> ids, const PerplexityRule& rule,
                                    const std::function<void(int64_t)>& on_tokens) {
  check_rule(rule, model.config);
  const TokenId bos = tokenizer.bos_id();
  std::vector<TokenId> stream = {bos};
  stream.insert(stream.end(), ids.begin(), ids.end());
  PerplexityResult result;
  result.text_tokens = static_cast<int64_t>(ids.size());
  result.special_text_tokens =
      std::count_if(ids.begin(), ids.end(), [&](TokenId id) { return is_no_text(tokenizer, id); });
  std::vector<TokenId> inputs;
  for (const Window& window : windows_of(stream.size(), rule)) {
    if (window.scored >= window.end) continue;
    inputs.assign(stream.begin() + static_cast<std::ptrdiff_t>(window.begin),
                  stream.begin() + static_cast<std::ptrdiff_t>(window.end) - 1);
    if (window.bos_first) inputs.front() = bos;
    const auto targets =
        std::span<const TokenId>(stream).subspan(window.scored, window.end - window.scored);
    add_window(result, tokenizer, targets, window_nll(model, inputs, targets));
    if (on_tokens) on_tokens(static_cast<int64_t>(targets.size()));
  }
  return result;
}

PerplexityResult measure_perplexity(const Llama& model, const Tokenizer& tokenizer,
                                    std::string_view text, const PerplexityRule& rule,
                                    const std::function<void(int64_t)>& on_tokens) {
  PerplexityResult result =
      measure_perplexity(model, tokenizer, tokenizer.encode(text), rule, on_tokens);
  result.characters = static_cast<int64_t>(utf8_length(text));
  result.bytes = static_cast<int64_t>(text.size());
  return result;
}

}  // namespace llama2zh
