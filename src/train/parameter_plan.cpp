// The list of trained parameters without a model: names and shapes come from the config, ranks from the
// LoRA section, exactly as inject_lora() and train_all_parameters() would make them.
#include "train/parameter_plan.h"

#include <algorithm>

#include "llama2zh/model/load.h"
#include "llama2zh/model/lora_patterns.h"
#include "llama2zh/model/trained_weights.h"
#include "llama2zh/train/quantized_moment.h"

namespace llama2zh {
namespace {

bool names_module(const std::vector<std::string>& modules, const std::string& path) {
  const std::string leaf = path.substr(path.rfind('.') + 1);
  return std::find(modules.begin(), modules.end(), leaf) != modules.end();
}

// Elements of a weight that trains in full.
int64_t full_elements(const TensorInfo& info, const std::string& module, int64_t first_row) {
  const bool rows = names_module({"embed_tokens", "lm_head"}, module);
  if (!rows) return info.numel();
  return std::max<int64_t>(0, info.shape[0] - first_row) * info.shape[1];
}

std::vector<PlannedParameter> all_parameters(const LlamaConfig& model, const RunConfig& run) {
  const bool full = run.method == "full";
  const PeftConfig rules = to_peft_config(run.lora);
  LlamaConfig plain = model;  // adapters have the shapes of weights, not of their codes
  plain.quantization.reset();
  std::vector<PlannedParameter> result;
  std::vector<std::string> adapted;
  for (const TensorInfo& info : expected_tensors(plain, at::kFloat)) {
    const std::string module = info.name.substr(0, info.name.rfind('.'));
    const bool shared = model.tie_word_embeddings && module == "model.embed_tokens" &&
                        names_module(run.lora.modules_to_save, "lm_head");
    if (full || names_module(run.lora.modules_to_save, module) || shared) {
      result.push_back({info.name, full_elements(info, module, run.train.first_trained_row)});
    } else if (names_module(run.lora.target_modules, module)) {
      adapted.push_back(module);
      const int64_t rank = rules.rank_of(module), out = info.shape[0], in = info.shape[1];
      result.push_back({module + ".lora_A.weight", rank * in});
      result.push_back({module + ".lora_B.weight", rank * out});
      if (run.lora.use_dora) result.push_back({module + ".lora_magnitude_vector", out});
    }
  }
  // An adapter that is continued has the patterns that it has.
  if (!full && run.model.peft_path.empty()) check_lora_patterns(rules, adapted);
  return result;
}

}  // namespace

std::vector<PlannedParameter> planned_parameters(const LlamaConfig& model, const RunConfig& run) {
  std::vector<PlannedParameter> parameters = all_parameters(model, run);
  const FrozenNames frozen(run.train.freeze);
  std::vector<std::string> names;
  for (const PlannedParameter& parameter : parameters) names.push_back(parameter.name);
  frozen.check_all_used(names);
  std::erase_if(parameters, [&](const auto& parameter) { return frozen.contains(parameter.name); });
  return parameters;
}

uint64_t optimizer_bytes(const std::vector<PlannedParameter>& parameters,
                         const TrainerConfig& config) {
  uint64_t bytes = 0;
  for (const PlannedParameter& parameter : parameters) {
    const auto elements = static_cast<uint64_t>(parameter.elements);
    const bool small = config.optim == "adamw_8bit" && parameter.elements >= kMinQuantized;
    const uint64_t blocks = (elements + QuantizedMoment::kBlock - 1) / QuantizedMoment::kBlock;
    bytes += 2 * (small ? elements + 4 * blocks : 4 * elements);
  }
  return bytes;
}

}  // namespace llama2zh
