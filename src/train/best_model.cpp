// As transformers has it: the best model is the one with the lowest loss, by however little; an
// evaluation counts as progress for early stopping only if it is better by more than the threshold.
#include "llama2zh/train/best_model.h"

#include <algorithm>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/train/run_history.h"

namespace llama2zh {
namespace {

constexpr const char* kMeanLoss = "eval_loss";

std::string loss_name(const std::string& set) { return cat("eval_", set, "_loss"); }

void check_evaluated(const TrainerConfig& config, bool has_sets) {
  const bool needed = config.load_best_model_at_end || config.early_stopping_patience > 0;
  if (!needed || (has_sets && config.eval_steps > 0)) return;
  fail_usage(
      config.load_best_model_at_end ? "train.load_best_model_at_end"
                                    : "train.early_stopping_patience",
      has_sets ? "nothing is evaluated on the way" : "there is nothing to evaluate",
      has_sets ? "set train.eval_steps" : "set data.validation_files or data.validation_split");
}

}  // namespace

BestModelRule::BestModelRule(const TrainerConfig& config, const std::vector<std::string>& sets)
    : patience_(config.early_stopping_patience), threshold_(config.early_stopping_threshold) {
  check_evaluated(config, !sets.empty());
  const std::string& metric = config.metric_for_best_model;
  if (metric == kMeanLoss) return;
  std::vector<std::string> known = {kMeanLoss};
  for (const std::string& set : sets) {
    if (metric == loss_name(set)) set_ = set;
    known.push_back(loss_name(set));
  }
  if (!set_.empty()) return;
  const std::string near = nearest(metric, known);
  fail_usage("train.metric_for_best_model",
             cat("\"", metric, "\" is not measured; expected one of ", join(known, ", ")),
             near.empty() ? "" : cat("did you mean ", near, "?"));
}

double BestModelRule::metric(const std::vector<EvalResult>& results) const {
  for (const EvalResult& result : results) {
    if (result.name == set_) return result.loss;
  }
  return mean_eval_loss(results);
}

bool BestModelRule::update(BestModel& best, double loss, int64_t step) const {
  const bool better = std::isfinite(loss) && (!best.loss || loss < *best.loss);
  const bool progress = better && (!best.loss || *best.loss - loss > threshold_);
  best.without_improvement = progress ? 0 : best.without_improvement + 1;
  if (!better) return false;
  best.loss = loss;
  best.step = step;
  return true;
}

bool BestModelRule::gives_up(const BestModel& best) const {
  return patience_ > 0 && best.without_improvement >= patience_;
}

}  // namespace llama2zh
