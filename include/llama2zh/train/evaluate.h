#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "llama2zh/data/loader.h"
#include "llama2zh/distributed/process_group.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/train/batch_loss.h"

namespace llama2zh {

// One validation set, ready to be gone through; rows must outlive it.
struct ValidationSet {
  std::string name;
  BatchLoader loader;
  int64_t target_tokens = 0;  // tokens that the rows hold as targets
  int64_t characters = 0;     // of the text behind them; 0: unknown, no bits per character
  std::shared_ptr<BatchLoss> loss = nullptr;  // in place of the tokens' cross-entropy
};

struct EvalResult {
  std::string name;
  double loss = 0;  // mean over the predicted tokens, in nats
  int64_t tokens = 0;
  int64_t rows = 0, batches = 0;  // that it was computed on; of pretraining texts blocks
  double seconds = 0;
  double perplexity() const;
  // Only for sets that know their characters: loss times the text's tokens a character, in bits.
  std::optional<double> bits_per_character;
  LossMetrics metrics;  // of the set's own loss, whose mean over its terms `loss` is then
};

// Without dropout and gradients, in file order. None if `stop` said so between two micro-batches;
// kData if the set has nothing to predict. With a group each rank takes its share of the
// micro-batches; the result is that of all, also on a rank that was asked to stop.
std::optional<EvalResult> evaluate_loss(const Llama& model, const ValidationSet& set,
                                        int64_t head_chunk_rows, const std::function<bool()>& stop,
                                        ProcessGroup* group = nullptr);

}  // namespace llama2zh
