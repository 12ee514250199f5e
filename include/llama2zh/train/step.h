#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/train/batch_loss.h"
#include "llama2zh/train/rank_gradients.h"
#include "llama2zh/train/run_config.h"
#include "llama2zh/train/schedule.h"
#include "llama2zh/train/sharded_adamw.h"

namespace llama2zh {

// Dynamic loss scaling for fp16, as torch.amp.GradScaler: doubled after 2000 good steps in a row,
// halved when gradients overflow. Off (scale 1) for every other type.
struct LossScale {
  double scale = 1;
  int64_t good_steps = 0;
  bool dynamic = false;
  void update(bool overflow);
};

struct StepResult {
  double loss = 0;       // as loss_reduction says, before scaling
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  int64_t tokens = 0, supervised = 0;
  double backward_seconds = 0;  // forward and backward of all micro-batches
  double update_seconds = 0;    // norm, clipping, optimizer (a GPU may still be at work then)
  bool skipped = false;         // not applied: fp16 overflow, or nothing was supervised
  bool finite = true;           // false: loss or gradients are not numbers; not applied
};

// One optimizer step: forward and backward over its micro-batches, clipping, update.
class StepRunner {
 public:
  // The model's trained parameters are taken as they are marked now. `total_steps` shapes the
  // schedule. With a group every rank runs its own micro-batches, perhaps none, of the same step.
  // `loss` (it must outlive the runner) takes the place of the tokens' cross-entropy.
  StepRunner(Llama& model, const TrainerConfig& config, int64_t total_steps,
             ProcessGroup* group = nullptr, BatchLoss* loss = nullptr,
             const Sharding& sharding = {});

  // The step that follows `step` others. Gradients are gone afterwards. Counts, loss and norm are
  // those of all ranks.
  StepResult run(int64_t step, const std::vector<PackedBatch>& batches);

  ShardedAdamW& optimizer() { return optimizer_; }
  const ShardedAdamW& optimizer() const { return optimizer_; }
  LossScale& loss_scale() { return scale_; }
  const LearningRate& learning_rate() const { return learning_rate_; }

 private:
  struct StepCounts {
    int64_t tokens = 0, supervised = 0, terms = 0, with_terms = 0;  // with_terms: micro-batches
    int64_t most_with_terms = 0;                                    // of one rank
  };
  StepCounts count(const std::vector<PackedBatch>& batches, const std::string& what) const;
  // Leaves the step's gradients, scaled, in the parameters; returns its loss.
  double backward(const std::vector<PackedBatch>& batches, const StepCounts& counts,
                  const std::string& what);
  // Sum of the losses of a micro-batch.
  at::Tensor forward(const PackedBatch& batch, PackedSequences& sequences,
                     const ForwardOptions& options);
  // What the loss of a micro-batch is a sum over: its supervised tokens, or what loss_ counts.
  int64_t terms(const PackedBatch& batch) const;
  Llama* model_;
  TrainerConfig config_;
  LearningRate learning_rate_;
  ShardedAdamW optimizer_;
  ProcessGroup* group_;
  std::unique_ptr<RankGradients> gradients_;  // none: one rank
  LossScale scale_;
  BatchLoss* loss_;
};

// Rows are a whole number of vectors on a CPU, filled up by a sequence that nothing looks at: matrix
// products are some 8 % faster then, and ragged rows compile fewer kernels.
PackedBatch aligned(const PackedBatch& batch, at::Device device);

// The same sum without gradients and dropout: what evaluation adds up.
double summed_loss(const Llama& model, const PackedBatch& batch, int64_t head_chunk_rows);

}  // namespace llama2zh
