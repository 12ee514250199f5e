// Mean token loss of held-out rows. Cutting into blocks leaves the first token of each block
// unpredicted, so bits per character takes the mean loss for every target token of the text.
#include "llama2zh/train/evaluate.h"

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>

#include <chrono>
#include <cmath>
#include <numbers>

#include "llama2zh/base/error.h"
#include "llama2zh/train/step.h"

namespace llama2zh {
namespace {

double own_loss(const Llama& model, PackedBatch& given, BatchLoss& loss) {
  const at::NoGradGuard no_grad;
  loss.prepare(given);
  const PackedBatch batch = aligned(given, model.device());
  PackedSequences sequences(batch.boundaries, model.device());
  return loss.sum(model, batch, sequences, {}).item<double>();
}

}  // namespace

double EvalResult::perplexity() const { return std::exp(loss); }

std::optional<EvalResult> evaluate_loss(const Llama& model, const ValidationSet& set,
                                        int64_t head_chunk_rows, const std::function<bool()>& stop,
                                        ProcessGroup* group) {
  const auto start = std::chrono::steady_clock::now();
  EvalResult result;
  result.name = set.name;
  double sum = 0;
  bool stopped = false;
  int64_t terms = 0;
  const int64_t ranks = group == nullptr ? 1 : group->size();
  for (int64_t i = group == nullptr ? 0 : group->rank(); i < set.loader.batches(0); i += ranks) {
    stopped = stop();
    if (stopped) break;
    PackedBatch batch = set.loader.batch(0, i);
    if (set.loss) {
      sum += own_loss(model, batch, *set.loss);
      terms += set.loss->count(batch);
    } else {
      sum += summed_loss(model, batch, head_chunk_rows);
      terms += batch.supervised;
    }
    result.tokens += batch.supervised;
    result.rows += static_cast<int64_t>(batch.rows.size());
    ++result.batches;
  }
  if (group != nullptr) {
    const auto all =
        group->sum({sum, static_cast<double>(terms), static_cast<double>(result.tokens),
                    static_cast<double>(result.rows), static_cast<double>(result.batches),
                    stopped ? 1.0 : 0.0},
                   "the evaluation of " + set.name);
    sum = all[0];
    terms = static_cast<int64_t>(all[1]);
    result.tokens = static_cast<int64_t>(all[2]);
    result.rows = static_cast<int64_t>(all[3]);
    result.batches = static_cast<int64_t>(all[4]);
    stopped = all[5] > 0;
  }
  if (set.loss) result.metrics = set.loss->take_metrics(group);
  if (stopped) return std::nullopt;
  if (terms == 0) fail_data(set.name, "the validation set has no token to predict");
  result.loss = sum / static_cast<double>(terms);
  if (set.characters > 0) {
    result.bits_per_character = result.loss / std::numbers::ln2 *
                                static_cast<double>(set.target_tokens) /
                                static_cast<double>(set.characters);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace llama2zh
