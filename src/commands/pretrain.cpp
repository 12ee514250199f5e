// llama2zh pretrain: continued (or first) pretraining on plain text.
#include "commands/training_verb.h"
#include "commands/verbs.h"

namespace llama2zh {

int run_pretrain(const std::vector<std::string>& args) {
  CommandSpec spec;
  spec.verb = "pretrain";
  spec.summary = "Continue pretraining a model on text, with LoRA or in full.";
  spec.examples = {
      "llama2zh pretrain --config configs/pretrain_7b.json",
      "llama2zh pretrain --config configs/pretrain_7b.json --lora.rank 16 --resume",
      "llama2zh pretrain --model.path base --data.train-files corpus.txt --output-dir adapter"};
  spec.config_file = true;
  return run_training_verb(spec, RowKind::kPretrain, args);
}

}  // namespace llama2zh
