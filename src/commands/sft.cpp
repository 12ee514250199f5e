// llama2zh sft: supervised fine-tuning on dialogues.
#include "commands/training_verb.h"
#include "commands/verbs.h"

namespace llama2zh {

int run_sft(const std::vector<std::string>& args) {
  CommandSpec spec;
  spec.verb = "sft";
  spec.summary = "Fine-tune a model on dialogues; the loss counts the assistant's tokens only.";
  spec.examples = {"llama2zh sft --config configs/sft_7b.json",
                   "llama2zh sft --config configs/sft_7b.json --model.peft-path pretrained-adapter",
                   "llama2zh sft --model.path base --data.train-files dialogues.jsonl --output-dir "
                   "chat-adapter"};
  spec.config_file = true;
  return run_training_verb(spec, RowKind::kSft, args);
}

}  // namespace llama2zh
