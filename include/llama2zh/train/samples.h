#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "llama2zh/data/datasets.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// A greedy answer to `prompt` by the model as it stands; ends at EOS, at a stop text, after
// max_new_tokens or when `stop` says so. It must change nothing that training uses (weights, random
// state). The engine's Generator does this; it is handed in because it is a layer beside this one.
struct SampleRequest {
  std::span<const TokenId> prompt;
  std::vector<std::string> stops;
  int64_t max_new_tokens = 0;
  std::function<bool()> stop;
};
using SampleGenerator = std::function<std::string(const Llama& model, const Tokenizer& tokenizer,
                                                  const SampleRequest& request)>;

// Answers to train.sample_prompts on the way, in the log and as one JSON object a line of
// output_dir/samples.jsonl: {"step", "prompt", "text"}. Prompts are what a user would say (SFT:
// through the chat template) or the beginning of a text (pretraining).
class SampleWriter {
 public:
  // kUsage/kData if a prompt is not UTF-8 or leaves no room in the model's context.
  SampleWriter(const RunConfig& config, RowKind kind, const Tokenizer& tokenizer,
               const LlamaConfig& model, SampleGenerator generate);
  // Lines of later steps than `after_step` are dropped from the file, since they will come again;
  // 0: begins anew.
  void open(int64_t after_step);
  void write(const Llama& model, int64_t step, const std::function<bool()>& stop);

 private:
  struct Prompt {
    std::string text;
    std::vector<TokenId> ids;
  };
  std::filesystem::path file_;
  const Tokenizer* tokenizer_;
  SampleGenerator generate_;
  int64_t max_new_tokens_;
  std::vector<std::string> stops_;
  std::vector<Prompt> prompts_;
};

}  // namespace llama2zh
