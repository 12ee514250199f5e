// llama2zh dpo: preference tuning on pairs of answers.
#include "commands/training_verb.h"
#include "commands/verbs.h"

namespace llama2zh {

int run_dpo(const std::vector<std::string>& args) {
  CommandSpec spec;
  spec.verb = "dpo";
  spec.summary =
      "Tune a model on pairs of answers, one preferred to the other: DPO, IPO, hinge, KTO on "
      "pairs, "
      "ORPO, SimPO.";
  spec.examples = {
      "llama2zh dpo --config configs/dpo_7b.json",
      "llama2zh dpo --config configs/dpo_7b.json --model.peft-path chat-adapter",
      "llama2zh dpo --model.path base --data.train-files pairs.jsonl --preference.loss "
      "orpo --output-dir tuned-adapter"};
  spec.config_file = true;
  return run_training_verb(spec, RowKind::kSft, args, /*preference=*/true);
}

}  // namespace llama2zh
