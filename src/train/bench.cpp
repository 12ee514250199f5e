// The path measured is the Trainer's own: StepRunner. What is around it in a run (log, evaluation,
// checkpoints) is not.
#include "llama2zh/train/bench.h"

#include <algorithm>
#include <chrono>

#include "llama2zh/base/error.h"
#include "llama2zh/kernels/product_peak.h"
#include "llama2zh/train/cost.h"
#include "llama2zh/train/device_memory.h"
#include "llama2zh/train/step.h"

namespace llama2zh {
namespace {

// Micro-batches one after the other, over the ends of epochs.
class BatchCursor {
 public:
  explicit BatchCursor(const BatchLoader& loader) : loader_(&loader) {
    if (loader.batches(0) == 0) fail_data("bench", "the rows do not make a single block");
  }
  PackedBatch next() {
    if (index_ >= loader_->batches(epoch_)) {
      ++epoch_;
      index_ = 0;
    }
    return loader_->batch(epoch_, index_++);
  }

 private:
  const BatchLoader* loader_;
  int64_t epoch_ = 0, index_ = 0;
};

// Reading a number of a parameter waits until a GPU has finished its update.
void wait_for_update(const ShardedAdamW& optimizer) {
  const at::Tensor& parameter = optimizer.parameters().front().tensor;
  if (!parameter.is_cpu()) parameter.detach().view(-1)[0].item<float>();
}

double smallest(const std::vector<StepTiming>& steps, double StepTiming::*seconds) {
  double best = steps.front().*seconds;
  for (const StepTiming& step : steps) best = std::min(best, step.*seconds);
  return best;
}

}  // namespace

double BenchMeasurement::best_backward_seconds() const {
  return smallest(steps, &StepTiming::backward_seconds);
}

double BenchMeasurement::best_update_seconds() const {
  return smallest(steps, &StepTiming::update_seconds);
}

StepTiming BenchMeasurement::sum() const {
  StepTiming total;
  for (const StepTiming& step : steps) {
    total.loss = step.loss;
    total.backward_seconds += step.backward_seconds;
    total.update_seconds += step.update_seconds;
    total.tokens += step.tokens;
    total.supervised += step.supervised;
    total.rows += step.rows;
    total.flops += step.flops;
  }
  return total;
}

BenchMeasurement measure_steps(Llama& model, const TrainerConfig& config, const Sharding& sharding,
                               const BatchLoader& loader, int64_t warmup, int64_t steps) {
  BenchMeasurement measurement;
  measurement.product_peak = measure_product_peak(model.compute_dtype(), model.device());
  StepRunner runner(model, config, warmup + steps, /*group=*/nullptr, /*loss=*/nullptr, sharding);
  const StepCost cost(model);
  BatchCursor cursor(loader);
  for (int64_t step = 0; step < warmup + steps; ++step) {
    std::vector<PackedBatch> batches;
    StepTiming timing;
    for (int64_t i = 0; i < config.gradient_accumulation_steps; ++i) {
      batches.push_back(cursor.next());
      timing.rows += static_cast<int64_t>(batches.back().rows.size());
    }
    const auto start = std::chrono::steady_clock::now();
    const StepResult result = runner.run(step, batches);
    wait_for_update(runner.optimizer());
    const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - start;
    if (step < warmup) continue;
    timing.loss = result.loss;
    timing.backward_seconds = result.backward_seconds;
    timing.update_seconds = whole.count() - result.backward_seconds;
    timing.tokens = result.tokens;
    timing.supervised = result.supervised;
    timing.flops = cost.flops(batches);
    measurement.steps.push_back(timing);
  }
  measurement.peak_memory = device_memory(model.device()).peak_allocated;
  return measurement;
}

}  // namespace llama2zh
