#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"
#include "llama2zh/engine/session.h"
#include "llama2zh/model/load.h"

namespace llama2zh {

// Which model a verb runs, and how; shared by generate, chat and evaluate.
struct InferenceOptions {
  std::string model;
  std::vector<std::string> adapter;
  std::string tokenizer;
  std::string dtype = "auto";
  std::string device = "auto";
  bool allow_other_base = false;
  static auto options() {
    using T = InferenceOptions;
    return std::tuple(
        option("model", &T::model,
               "Model folder (Hugging Face or Meta layout), .gguf or llama2.c .bin."),
        option(
            "adapter", &T::adapter,
            "LoRA adapter folders to put on the model, in order; NAME=DIR keeps one beside it, for "
            "requests that name it."),
        option(
            "tokenizer", &T::tokenizer,
            "Tokenizer: a folder, a .model or .gguf file; empty: the adapter's, else the model's."),
        option("dtype", &T::dtype,
               "Type to compute in; auto: as the weights are stored, float32 on a CPU without "
               "AVX-512.",
               one_of({"auto", "float32", "bfloat16", "float16"})),
        option("device", &T::device, "Where to compute; auto: cuda if it is there.",
               device_names()),
        option("allow_other_base", &T::allow_other_base,
               "Use adapters although their manifest names another base."));
  }
  LoadRequest request(const std::string& template_name = {}) const;
  // Of a verb whose requests name no adapter: kUsage for NAME=DIR, which would stand by unused.
  LoadRequest plain_request(const std::string& template_name = {}) const;
};

// The engine of a verb that answers, and the model that guesses for it.
struct SpeculationOptions {
  std::string draft_model;
  static auto options() {
    return std::tuple(option("draft_model", &SpeculationOptions::draft_model,
                             "Smaller model of the same vocabulary that guesses ahead: sets "
                             "speculate to draft."));
  }
  // Completes both; kUsage if `config` says otherwise.
  void apply(EngineConfig& config, LoadRequest& request) const;
};

// ", 30 of 40 guessed tokens were right"; "" where none was guessed.
std::string draft_report(int64_t drafted, int64_t accepted);

// The entries of several bound structs side by side, as the options of one verb.
OptionTable join_tables(const std::vector<OptionTable>& tables);

// The model's chat template; kUsage with the known names if it has none, for a guess would answer
// badly without a word. `otherwise` is a second remedy, may be empty.
const ChatTemplate& require_template(const LoadedModel& loaded, const std::string& model_path,
                                     const std::string& otherwise = {});

}  // namespace llama2zh
