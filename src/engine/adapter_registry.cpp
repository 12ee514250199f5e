// All checks come before anything is changed, so that what is refused leaves no trace.
#include "llama2zh/engine/adapter_registry.h"

#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/adapter_base.h"
#include "llama2zh/model/load.h"

namespace llama2zh {

AdapterRegistry::AdapterRegistry(Llama& model, const Tokenizer& tokenizer,
                                 std::filesystem::path base, bool allow_other_base)
    : model_(&model),
      tokenizer_(&tokenizer),
      base_(std::move(base)),
      allow_other_base_(allow_other_base) {}

void AdapterRegistry::check(const std::filesystem::path& folder) const {
  if (!is_peft_folder(folder))
    fail_format(folder.string(), "this is no adapter folder: adapter_config.json is missing");
  check_adapter_vocabulary(folder, model_->config, base_);
  if (!allow_other_base_) {
    check_adapter_base(
        folder, base_, [this] { return model_identity(open_model(base_)); }, "--allow-other-base");
  }
  if (!has_manifest(folder)) return;
  const std::string trained_with = read_manifest(folder).tokenizer_sha256;
  if (!trained_with.empty() && trained_with != tokenizer_->fingerprint()) {
    fail_format(folder.string(), "it was trained with another tokenizer than the one in use",
                "put it on the model by --adapter DIR, without a name");
  }
  LlamaConfig config = model_->config;
  adopt_rope(folder, config);
  if (rope_record(config) != rope_record(model_->config)) {
    fail_format(folder.string(), "it was trained with another rotary scaling than the model has",
                "put it on the model by --adapter DIR, without a name");
  }
}

std::shared_ptr<NamedAdapter> AdapterRegistry::read(const std::string& name,
                                                    const std::filesystem::path& folder) const {
  if (name.empty()) fail_usage("adapter", "a name is missing", "write NAME=DIR");
  check(folder);
  auto adapter = std::make_shared<NamedAdapter>();
  adapter->name = name;
  adapter->folder = folder;
  adapter->weights = make_row_adapter(*model_, read_peft_adapter(folder));
  return adapter;
}

void AdapterRegistry::add(const std::string& name, const std::filesystem::path& folder) {
  const auto taken = [&] { fail_usage("adapter", cat("there are two of the name ", name)); };
  {
    const std::lock_guard lock(mutex_);
    if (adapters_.contains(name)) taken();
  }
  std::shared_ptr<NamedAdapter> adapter = read(name, folder);
  const std::lock_guard lock(mutex_);
  // A name may come back with other weights, so it is the number that keys depend on.
  adapter->root = cat("adapter ", ++last_number_);
  if (!adapters_.emplace(name, std::move(adapter)).second) taken();
}

void AdapterRegistry::put(const std::string& name, const std::filesystem::path& folder) {
  std::shared_ptr<NamedAdapter> adapter = read(name, folder);
  const std::lock_guard lock(mutex_);
  adapter->root = cat("adapter ", ++last_number_);
  adapters_[name] = std::move(adapter);
}

bool AdapterRegistry::remove(const std::string& name) {
  const std::lock_guard lock(mutex_);
  return adapters_.erase(name) > 0;
}

std::shared_ptr<const NamedAdapter> AdapterRegistry::find(const std::string& name) const {
  if (name.empty()) return nullptr;
  const std::lock_guard lock(mutex_);
  const auto found = adapters_.find(name);
  if (found != adapters_.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [other, adapter] : adapters_) known.push_back(other);
  fail_data("adapter", cat("there is none of the name \"", name, "\""),
            known.empty() ? "give it by --adapter NAME=DIR" : cat("known are ", join(known, ", ")));
}

std::vector<std::string> AdapterRegistry::names() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [name, adapter] : adapters_) out.push_back(name);
  return out;
}

}  // namespace llama2zh
