// The plan that is printed before a run. Activations per token and layer, in numbers of the
// arithmetic's type that autograd keeps (H hidden, K key/value width, I intermediate): two norms
// with their inputs in fp32 and outputs (2 x 3 H), q, k, v before and after rotation (2 H + 3 K),
// attention's output (H), gate, up, silu and product (4 I); LoRA adds its inner products, which
// are small. With checkpointing one layer of these and H a layer remain.
#include "llama2zh/train/plan.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "llama2zh/base/text.h"
#include "train/parameter_plan.h"

namespace llama2zh {
namespace {

std::string percent(int64_t part, int64_t whole) {
  std::ostringstream out;
  out.precision(3);
  out << 100.0 * static_cast<double>(part) / static_cast<double>(std::max<int64_t>(1, whole));
  return out.str() + " %";
}

}  // namespace

StepCount::StepCount(const BatchLoader& loader, const TrainerConfig& config, int64_t ranks)
    : loader_(&loader), accumulation_(config.gradient_accumulation_steps * ranks) {
  if (config.max_steps > 0) {
    total_ = config.max_steps;
    return;
  }
  const double whole = std::floor(config.num_train_epochs);
  for (int64_t epoch = 0; epoch < static_cast<int64_t>(whole); ++epoch) {
    total_ += steps_in_epoch(epoch);
  }
  const double rest = config.num_train_epochs - whole;
  if (rest > 0) {
    const auto steps = static_cast<double>(steps_in_epoch(static_cast<int64_t>(whole)));
    total_ += static_cast<int64_t>(std::ceil(rest * steps));
  }
}

int64_t StepCount::steps_in_epoch(int64_t epoch) const {
  return (loader_->batches(epoch) + accumulation_ - 1) / accumulation_;
}

int64_t trainable_parameters(const LlamaConfig& model, const RunConfig& run) {
  int64_t count = 0;
  for (const PlannedParameter& parameter : planned_parameters(model, run)) {
    count += parameter.elements;
  }
  return count;
}

MemoryEstimate estimate_memory(const LlamaConfig& model, const RunConfig& run, int64_t trainable,
                               int64_t bytes_per_number, bool mapped, int64_t ranks) {
  const int64_t tokens = run.data.block_size * run.train.micro_batch_size;
  const int64_t kv = model.num_key_value_heads * model.head_dim;
  const int64_t fp32_in_norms = 2 * 4 * model.hidden_size;
  const int64_t layer =
      (7 * model.hidden_size + 3 * kv + 4 * model.intermediate_size) * bytes_per_number +
      fp32_in_norms;
  const int64_t kept = run.train.gradient_checkpointing
                           ? model.num_hidden_layers * model.hidden_size * bytes_per_number + layer
                           : model.num_hidden_layers * layer;
  const int64_t chunk = std::min(run.train.head_chunk_rows, tokens);
  const int64_t logits = chunk * model.vocab_size * (8 + bytes_per_number);
  const int64_t full_matrices = run.method == "full" || !run.lora.modules_to_save.empty() ? 2 : 0;
  const int64_t rows = std::max<int64_t>(0, model.vocab_size - run.train.first_trained_row);
  const uint64_t moments = optimizer_bytes(planned_parameters(model, run), run.train);
  const DistributedConfig& sharding = run.distributed;
  const auto part = static_cast<uint64_t>(sharding.zero_stage > 0 ? ranks : 1);  // 1 / it
  const int64_t gradients = trainable * 4 / (sharding.zero_stage == 2 ? ranks : 1);
  MemoryEstimate estimate;
  const int64_t frozen = model.parameter_count() - (run.method == "full" ? trainable : 0);
  estimate.frozen = static_cast<uint64_t>(frozen * bytes_per_number);
  // master, gradient, two moments; and the next micro-batch's gradient of the two big matrices
  estimate.trained = static_cast<uint64_t>(trainable * 4 + gradients +
                                           full_matrices * rows * model.hidden_size * 4);
  if (sharding.offload_optimizer) {
    estimate.offloaded = (moments + static_cast<uint64_t>(trainable * 8)) / part;
  } else {
    estimate.trained += moments / part;
  }
  estimate.activations = static_cast<uint64_t>(tokens * kept + logits);
  estimate.checkpoint = moments + static_cast<uint64_t>(trainable * 4);
  estimate.mapped = mapped;
  return estimate;
}

std::string describe(const TrainingPlan& plan) {
  std::ostringstream out;
  out << "Plan\n"
      << "  parameters   " << with_thousands(plan.parameters) << ", trained "
      << with_thousands(plan.trainable) << " (" << percent(plan.trainable, plan.parameters) << ")\n"
      << "  arithmetic   " << plan.dtype << " on " << plan.device << "\n"
      << "  data         " << with_thousands(plan.rows) << " rows, " << with_thousands(plan.tokens)
      << " tokens";
  if (plan.characters > 0) out << ", " << with_thousands(plan.characters) << " characters";
  if (plan.overlong_rows > 0) out << "; longer than a block: " << plan.overlong_rows;
  if (plan.dropped_rows > 0) out << "; dropped: " << plan.dropped_rows;
  if (plan.bad_rows > 0) out << "; bad and skipped: " << plan.bad_rows;
  for (const SourcePlan& source : plan.sources) {
    out << "\n    " << source.name << ": " << with_thousands(source.tokens) << " tokens, "
        << percent(static_cast<int64_t>(std::llround(source.share * 1e6)), 1000000)
        << " of an epoch (" << with_thousands(source.blocks_in_epoch) << " blocks, "
        << source.passes << " passes)";
  }
  out << "\n  a step       " << plan.micro_batch_size << " x " << plan.accumulation << " blocks of "
      << plan.block_size << (plan.ranks > 1 ? cat(" on each of ", plan.ranks, " ranks") : "")
      << " = up to " << with_thousands(plan.tokens_per_step()) << " tokens\n"
      << "  steps        " << with_thousands(plan.steps) << " (" << plan.steps_in_epoch
      << " an epoch, " << plan.warmup_steps << " warmup)\n"
      << "  memory       about " << human_bytes(plan.memory.total()) << ": frozen "
      << human_bytes(plan.memory.frozen) << (plan.memory.mapped ? " (mapped)" : "") << ", trained "
      << human_bytes(plan.memory.trained) << ", activations "
      << human_bytes(plan.memory.activations)
      << (plan.memory.offloaded > 0
              ? cat("; and ", human_bytes(plan.memory.offloaded), " of host memory")
              : "")
      << "\n"
      << "  checkpoints  " << human_bytes(plan.memory.checkpoint) << " each"
      << (plan.save_steps > 0 && plan.save_in_background
              ? "; as much again in host memory while one is written in the background"
              : "")
      << "\n"
      << "  time         known after the first steps";
  return out.str();
}

}  // namespace llama2zh
