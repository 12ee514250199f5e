// Writing a PEFT LoRA adapter folder. The config is the short list of keys that PEFT 0.3 to 0.21
// all read; tensor names are the ones PEFT saves itself. Before anything is written the adapter is
// checked against its own config, since PEFT drops, without an error, what the config does not
// name; afterwards the folder is read back and compared.
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>

#include <cmath>
#include <sstream>

#include "formats/peft_config.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/safetensors.h"

namespace llama2zh {

namespace {

constexpr const char* kPeftPrefix = "base_model.model.";

void check_written_tensor(const std::string& where, const std::string& name,
                          const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) fail_data(where, cat(name, " is empty"));
  if (!at::isFloatingType(tensor.scalar_type())) {
    fail_data(where, cat(name, " has type ", at::toString(tensor.scalar_type()),
                         ", expected a floating-point type"));
  }
  if (!at::isfinite(tensor).all().item<bool>()) {
    fail_data(where, cat(name, " holds NaN or infinite values"),
              "the training diverged: go back to an earlier checkpoint");
  }
}

void check_written_magnitude(const std::string& where, bool use_dora, const std::string& module,
                             const LoraPair& pair) {
  if (pair.magnitude.defined() != use_dora) {
    fail_data(where, cat(module, use_dora ? " has no magnitude vector, but the config says use_dora"
                                          : " has a magnitude vector, but not use_dora"));
  }
  if (!use_dora) return;
  check_written_tensor(where, module + ".lora_magnitude_vector", pair.magnitude);
  if (pair.magnitude.dim() != 1 || pair.magnitude.size(0) != pair.b.size(0)) {
    fail_data(where, cat(module, ": expected a lora_magnitude_vector [out]"));
  }
}

void check_written_pair(const std::string& where, const PeftRules& rules, const std::string& module,
                        const LoraPair& pair) {
  check_written_tensor(where, module + ".lora_A", pair.a);
  check_written_tensor(where, module + ".lora_B", pair.b);
  if (pair.a.dim() != 2 || pair.b.dim() != 2 || pair.a.size(0) != pair.b.size(1)) {
    fail_data(where, cat(module, ": expected lora_A [r, in] and lora_B [out, r]"));
  }
  if (!rules.targets(module)) {
    fail_data(where, cat("target_modules does not name ", module, ", so PEFT would not load it"));
  }
  if (rules.rank_of(module) != pair.a.size(0)) {
    fail_data(where, cat(module, " has rank ", pair.a.size(0), ", but the config says ",
                         rules.rank_of(module)));
  }
  const double scaling = rules.scaling_of(module);
  if (!(std::abs(scaling - pair.scaling) <= 1e-6 * std::abs(scaling))) {
    fail_data(where,
              cat(module, " has scaling ", pair.scaling, ", but the config gives ", scaling));
  }
}

void check_written_full(const std::string& where, const PeftRules& rules, const std::string& name,
                        const at::Tensor& tensor) {
  check_written_tensor(where, name, tensor);
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight) ||
      !rules.saves(std::string_view(name).substr(0, name.size() - kWeight.size()))) {
    fail_data(where, cat("modules_to_save does not name ", name));
  }
}

void check_written_adapter(const std::string& where, const PeftAdapter& adapter, bool trained) {
  if (adapter.lora.empty() && adapter.full.empty()) fail_data(where, "the adapter has no tensors");
  const PeftRules rules(adapter.config, where);
  bool all_zero = true;
  for (const auto& [module, pair] : adapter.lora) {
    check_written_pair(where, rules, module, pair);
    check_written_magnitude(where, adapter.config.use_dora, module, pair);
    all_zero = all_zero && !pair.b.any().item<bool>();
  }
  for (const auto& [name, tensor] : adapter.full) check_written_full(where, rules, name, tensor);
  if (trained && all_zero && !adapter.lora.empty()) {
    fail_data(where, "every lora_B is zero: the adapter changes nothing",
              "check that the run made optimizer steps with a learning rate above 0");
  }
}

// PEFT's own card, as short as the hubs accept it.
std::string peft_model_card(const PeftAdapter& adapter) {
  const PeftConfig& config = adapter.config;
  std::ostringstream out;
  out << "---\n";
  // JSON is YAML: a quoted name can hold anything.
  if (!config.base_model.empty())
    out << "base_model: " << json(utf8_sanitize(config.base_model)).dump() << "\n";
  out << "library_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n- llama\n---\n\n"
      << "# LoRA adapter\n\nTrained by llama2zh. Files are in PEFT's layout.\n\n"
      << "| | |\n|---|---|\n"
      << "| rank | " << config.rank << " |\n"
      << "| alpha | " << config.alpha << " |\n"
      << (config.use_dora ? "| DoRA | magnitude vectors |\n" : "") << "| adapted modules | "
      << adapter.lora.size() << " |\n";
  for (const auto& [name, tensor] : adapter.full) {
    out << "| trained in full | `" << name << "`, " << tensor.size(0) << " rows |\n";
  }
  if (const auto it = adapter.full.find("model.embed_tokens.weight"); it != adapter.full.end()) {
    out << "\nThe base must have " << it->second.size(0)
        << " rows in its embedding before the adapter is loaded: resize it with the tokenizer that "
           "lies beside the adapter.\n";
  }
  return out.str();
}

void compare_written(const std::string& where, const std::string& name, const at::Tensor& wanted,
                     const at::Tensor& found) {
  if (wanted.scalar_type() != found.scalar_type() || !at::equal(wanted.cpu(), found)) {
    fail_io(where, cat(name, " reads back with other values than were written"));
  }
}

void verify_written_adapter(const std::filesystem::path& folder, const PeftAdapter& adapter) {
  const std::string where = folder.string();
  const PeftAdapter found = read_peft_adapter(folder);
  if (found.lora.size() != adapter.lora.size() || found.full.size() != adapter.full.size()) {
    fail_io(where, "the adapter reads back with another number of tensors than were written");
  }
  for (const auto& [module, pair] : adapter.lora) {
    const auto it = found.lora.find(module);
    if (it == found.lora.end()) fail_io(where, cat(module, " is missing after writing"));
    compare_written(where, module + ".lora_A", pair.a, it->second.a);
    compare_written(where, module + ".lora_B", pair.b, it->second.b);
    if (!pair.magnitude.defined()) continue;
    compare_written(where, module + ".lora_magnitude_vector", pair.magnitude, it->second.magnitude);
  }
  for (const auto& [name, tensor] : adapter.full) {
    const auto it = found.full.find(name);
    if (it == found.full.end()) fail_io(where, cat(name, " is missing after writing"));
    compare_written(where, name, tensor, it->second);
  }
}

}  // namespace

void write_peft_adapter(const std::filesystem::path& folder, const PeftAdapter& adapter,
                        bool trained) {
  const std::string where = folder.string();
  check_written_adapter(where, adapter, trained);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [module, pair] : adapter.lora) {
    tensors.emplace_back(cat(kPeftPrefix, module, ".lora_A.weight"), pair.a);
    tensors.emplace_back(cat(kPeftPrefix, module, ".lora_B.weight"), pair.b);
    if (!pair.magnitude.defined()) continue;
    tensors.emplace_back(cat(kPeftPrefix, module, ".lora_magnitude_vector"), pair.magnitude);
  }
  for (const auto& [name, tensor] : adapter.full) tensors.emplace_back(kPeftPrefix + name, tensor);
  write_safetensors(folder / kPeftWeightsName, tensors);
  write_json_file(folder / kPeftConfigName, peft_config_json(adapter.config));
  write_file_atomic(folder / "README.md", peft_model_card(adapter));
  verify_written_adapter(folder, adapter);
}

}  // namespace llama2zh
