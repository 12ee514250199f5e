// Perplexity over windows. Without overlap each window is BOS and window-1 tokens in, window tokens
// predicted. With overlap the stream is BOS + text, cut as in Hugging Face's guide: window [begin,
// end) predicts what no window before it did, from up to `window` - `stride` tokens of context; the
// last token of a window is only a target, so it never goes in. The head runs over kHeadRows
// positions at a time: logits of a whole window over 50,000 pieces would take a gigabyte.
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

namespace llama2zh {
namespace {

constexpr int64_t kHeadRows = 128;

at::Tensor to_tensor(std::span<const TokenId> ids, at::Device device) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(ids.size())}, at::kLong);
  std::copy(ids.begin(), ids.end(), tensor.data_ptr<int64_t>());
  return tensor.to(device);
}

// Summed nll of `targets` as the continuations of the last targets.size() positions of `inputs`.
double window_nll(const Llama& model, std::span<const TokenId> inputs,
                  std::span<const TokenId> targets) {
  const at::NoGradGuard no_grad;
  const auto length = static_cast<int64_t>(inputs.size());
  const auto scored = static_cast<int64_t>(targets.size());
  PackedSequences context(length, model.device());
  const at::Tensor hidden =
      model.forward(to_tensor(inputs, model.device()), context).narrow(0, length - scored, scored);
  const at::Tensor wanted = to_tensor(targets, model.device());
  double nll = 0;
  for (int64_t row = 0; row < scored; row += kHeadRows) {
    const int64_t rows = std::min(kHeadRows, scored - row);
    const at::Tensor logits = model.logits(hidden.narrow(0, row, rows));
    const at::Tensor at_target = logits.gather(1, wanted.narrow(0, row, rows).unsqueeze(1));
    nll += (at::logsumexp(logits, 1) - at_target.squeeze(1)).sum(at::kDouble).item<double>();
  }
  return nll;
}

void check_window(const LlamaConfig& config, int64_t window, int64_t stride) {
  if (window < 2 || window > config.context_length()) {
    fail_usage("window", cat("is ", window, ", must be between 2 and the model's context of ",
                             config.context_length()));
  }
  if (stride < 1 || stride > window)
    fail_usage("stride", cat("is ", stride, ", must be between 1 and the window of ", window));
}

}  // namespace

double PerplexityResult::perplexity() const { return std::exp(nll_per_token()); }
double PerplexityResult::bits_per_character() const {
  return nll / std::numbers::ln2 / static_cast<double>(characters);
}
double PerplexityResult::bits_per_byte() const {
  return nll / std::numbers::ln2 / static_cast<double>(bytes);
}

PerplexityResult measure_perplexity(const Llama& model, const Tokenizer& tokenizer,
                                    std::string_view text, int64_t window, int64_t stride,
                                    const std::function<void(int64_t)>& on_tokens) {
  check_window(model.config, window, stride);
  std::vector<TokenId> stream = {tokenizer.bos_id()};
  const std::vector<TokenId> ids = tokenizer.encode(text);
  stream.insert(stream.end(), ids.begin(), ids.end());

  PerplexityResult result;
  result.characters = static_cast<int64_t>(utf8_length(text));
  result.bytes = static_cast<int64_t>(text.size());
  const std::span<const TokenId> all = stream;
  const size_t size = all.size();
  const auto width = static_cast<size_t>(window), step = static_cast<size_t>(stride);
  const auto score = [&](std::span<const TokenId> inputs, std::span<const TokenId> targets) {
    result.nll += window_nll(model, inputs, targets);
    result.tokens += static_cast<int64_t>(targets.size());
    if (on_tokens) on_tokens(static_cast<int64_t>(targets.size()));
  };
  if (step == width) {
    std::vector<TokenId> inputs;
    for (size_t begin = 1; begin < size; begin += width) {
      const auto targets = all.subspan(begin, std::min(width, size - begin));
      inputs.assign(1, tokenizer.bos_id());
      inputs.insert(inputs.end(), targets.begin(), targets.end() - 1);
      score(inputs, targets);
    }
  } else {
    size_t scored = 1;  // of the stream; BOS itself is not predicted
    for (size_t begin = 0; scored < size; begin += step) {
      const size_t end = std::min(begin + width, size);
      score(all.subspan(begin, end - begin - 1), all.subspan(scored, end - scored));
      scored = end;
    }
  }
  return result;
}

}  // namespace llama2zh
