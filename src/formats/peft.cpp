// Reading a PEFT LoRA adapter folder: adapter_config.json and adapter_model.safetensors (or .bin).
// PEFT saves "base_model.model." + module + ".lora_A.weight" (DoRA also
// ".lora_magnitude_vector", without ".weight"); in memory, and in files of other
// savers, the adapter's name stands in between (".lora_A.default.weight"), and a fully trained
// module is spelled ".weight", ".default.weight", ".modules_to_save.weight" or
// ".modules_to_save.default.weight" (peft/utils/save_and_load.py). Everything is checked on the
// names, shapes and types of the file's header before a tensor is loaded.
#include "llama2zh/formats/peft.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <system_error>

#include "formats/dtype.h"
#include "formats/peft_config.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

namespace {

struct PeftName {
  enum class Kind { kA, kB, kMagnitude, kFull, kOriginal };
  Kind kind = Kind::kFull;
  std::string module;
};

constexpr size_t kMaxPeftTensorName = 1000;

std::string join_first(const std::vector<std::string>& parts, size_t count) {
  return join(std::vector<std::string>(parts.begin(), parts.begin() + static_cast<long>(count)),
              ".");
}

// What may follow ".lora_A" or ".modules_to_save": nothing, "weight", or "ADAPTER.weight".
bool is_weight_tail(const std::vector<std::string>& parts, size_t first) {
  const size_t rest = parts.size() - first;
  return rest == 0 || (rest <= 2 && parts.back() == "weight");
}

[[noreturn]] void fail_peft_tensor(const TensorSource& source, std::string_view name,
                                   std::string_view problem, std::string_view remedy = {}) {
  fail_format(source.describe(), cat("tensor \"", name, "\" ", problem), remedy);
}

// What a component of a name says about the tensor.
std::optional<PeftName::Kind> peft_kind(const std::string& part) {
  if (part == "lora_A") return PeftName::Kind::kA;
  if (part == "lora_B") return PeftName::Kind::kB;
  if (part == "lora_magnitude_vector") return PeftName::Kind::kMagnitude;
  if (part == "modules_to_save") return PeftName::Kind::kFull;
  return std::nullopt;
}

PeftName parse_peft_name(const TensorSource& source, const std::string& name) {
  if (name.size() > kMaxPeftTensorName) {
    fail_format(source.describe(), cat("a tensor's name has ", name.size(), " characters"));
  }
  constexpr std::string_view kPrefix = "base_model.model.";
  std::string_view rest = name;
  if (rest.starts_with(kPrefix)) rest.remove_prefix(kPrefix.size());
  const std::vector<std::string> parts = split(rest, '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string& part = parts[i];
    if (part.starts_with("lora_embedding_")) {
      fail_peft_tensor(source, name, "is LoRA on an embedding, which is not supported",
                       "train the embedding itself: list embed_tokens in modules_to_save");
    }
    if (part == "original_module") return {PeftName::Kind::kOriginal, join_first(parts, i)};
    const std::optional<PeftName::Kind> kind = peft_kind(part);
    if (kind && i > 0 && is_weight_tail(parts, i + 1)) return {*kind, join_first(parts, i)};
  }
  if (parts.size() >= 2 && parts.back() == "weight") {
    const bool named = parts.size() >= 3 && parts[parts.size() - 2] == "default";
    return {PeftName::Kind::kFull, join_first(parts, parts.size() - (named ? 2 : 1))};
  }
  fail_peft_tensor(source, name, "is neither a LoRA matrix nor a module's weight",
                   "the file may belong to another kind of adapter");
}

// The tensors of the file by module, still unread.
struct PeftIndex {
  struct Pair {
    const TensorInfo* a = nullptr;
    const TensorInfo* b = nullptr;
    const TensorInfo* magnitude = nullptr;
  };
  std::map<std::string, Pair> lora;
  std::map<std::string, const TensorInfo*> full;  // by module, without ".weight"
};

void put_once(const TensorSource& source, const TensorInfo*& slot, const TensorInfo& info) {
  if (slot) {
    fail_peft_tensor(source, info.name, cat("means the same as \"", slot->name, "\""),
                     "keep the tensors of one adapter only");
  }
  slot = &info;
}

void check_peft_tensor(const TensorSource& source, const TensorInfo& info) {
  if (info.numel() == 0) {
    fail_peft_tensor(source, info.name, cat("is empty (shape ", shape_text(info.shape), ")"),
                     "the adapter was saved by a broken saver (sharded parameters that were not "
                     "gathered): save it again");
  }
  if (!at::isFloatingType(info.dtype)) {
    fail_peft_tensor(
        source, info.name,
        cat("has type ", at::toString(info.dtype), ", expected a floating-point type"));
  }
}

PeftIndex index_peft_tensors(const TensorSource& source) {
  PeftIndex index;
  for (const TensorInfo& info : source.tensors()) {
    const PeftName name = parse_peft_name(source, info.name);
    if (name.kind == PeftName::Kind::kOriginal) continue;  // a frozen copy of the base's weight
    check_peft_tensor(source, info);
    switch (name.kind) {
      case PeftName::Kind::kA:
        put_once(source, index.lora[name.module].a, info);
        break;
      case PeftName::Kind::kB:
        put_once(source, index.lora[name.module].b, info);
        break;
      case PeftName::Kind::kMagnitude:
        put_once(source, index.lora[name.module].magnitude, info);
        break;
      default:
        put_once(source, index.full[name.module], info);
    }
  }
  if (index.lora.empty() && index.full.empty()) {
    fail_format(source.describe(), "holds no adapter tensors at all",
                "the adapter was saved by a broken saver: save it again");
  }
  return index;
}

void check_peft_pair(const TensorSource& source, const PeftRules& rules, const std::string& module,
                     const PeftIndex::Pair& pair) {
  if (!pair.a || !pair.b) {
    const TensorInfo& present = pair.a ? *pair.a : pair.b ? *pair.b : *pair.magnitude;
    fail_peft_tensor(
        source, present.name,
        cat("has no partner: lora_", pair.a ? "B" : "A", " of ", module, " is missing"));
  }
  if (pair.a->shape.size() != 2 || pair.b->shape.size() != 2 ||
      pair.a->shape[0] != pair.b->shape[1]) {
    fail_peft_tensor(source, pair.a->name,
                     cat("has shape ", shape_text(pair.a->shape), " and its lora_B ",
                         shape_text(pair.b->shape), ", expected [r, in] and [out, r]"));
  }
  if (!rules.targets(module)) {
    fail_peft_tensor(
        source, pair.a->name,
        cat("adapts a module that target_modules of ", kPeftConfigName, " does not name"));
  }
  if (const int64_t rank = rules.rank_of(module); pair.a->shape[0] != rank) {
    fail_peft_tensor(source, pair.a->name,
                     cat("has rank ", pair.a->shape[0], ", but ", kPeftConfigName, " says ", rank),
                     "the two files belong to different adapters");
  }
}

void check_peft_magnitude(const TensorSource& source, const PeftConfig& config,
                          const std::string& module, const PeftIndex::Pair& pair) {
  if (config.use_dora && !pair.magnitude) {
    fail_peft_tensor(source, pair.a->name,
                     cat("has no lora_magnitude_vector, but ", kPeftConfigName, " says use_dora"),
                     "the adapter is incomplete: save it again");
  }
  if (!pair.magnitude) return;
  if (!config.use_dora) {
    fail_peft_tensor(source, pair.magnitude->name,
                     cat("belongs to DoRA, but use_dora of ", kPeftConfigName, " is not set"));
  }
  if (pair.magnitude->numel() != pair.b->shape[0]) {
    fail_peft_tensor(source, pair.magnitude->name,
                     cat("has shape ", shape_text(pair.magnitude->shape), ", expected [",
                         pair.b->shape[0], "] for ", module));
  }
}

LoraPair load_peft_pair(const TensorSource& source, const PeftIndex::Pair& pair, double scaling) {
  LoraPair loaded{source.load(pair.a->name), source.load(pair.b->name), scaling};
  if (pair.magnitude) loaded.magnitude = source.load(pair.magnitude->name).reshape({-1});
  return loaded;
}

// PEFT saves embeddings on its own accord when the vocabulary has grown; anything else that is
// trained in full must be listed.
void check_peft_full(const TensorSource& source, const PeftConfig& config, const PeftRules& rules,
                     const PeftIndex& index) {
  for (const auto& [module, info] : index.full) {
    const bool embedding = module.ends_with("embed_tokens") || module.ends_with("lm_head");
    if (!embedding && !rules.saves(module)) {
      fail_peft_tensor(source, info->name,
                       cat("is not a LoRA matrix, and modules_to_save of ", kPeftConfigName,
                           " does not name its module"));
    }
    if (embedding && info->shape.size() != 2) {
      fail_peft_tensor(source, info->name,
                       cat("has shape ", shape_text(info->shape), ", expected [vocab, hidden]"));
    }
  }
  for (const std::string& name : config.modules_to_save) {
    const bool found = std::any_of(index.full.begin(), index.full.end(), [&](const auto& entry) {
      return std::string_view(entry.first).ends_with(name);
    });
    if (!found) {
      fail_format(source.describe(),
                  cat("has no weight for \"", name, "\", which modules_to_save of ",
                      kPeftConfigName, " names"),
                  "the adapter is incomplete: save it again");
    }
  }
}

std::unique_ptr<TensorSource> open_peft_weights(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (std::filesystem::exists(folder / kPeftWeightsName, ignored)) {
    return open_safetensors(folder / kPeftWeightsName);
  }
  if (std::filesystem::exists(folder / kPeftWeightsBinName, ignored)) {
    return open_torch_zip(folder / kPeftWeightsBinName);
  }
  fail_format(
      folder.string(),
      cat("has ", kPeftConfigName, " but neither ", kPeftWeightsName, " nor ", kPeftWeightsBinName),
      "the adapter is incomplete: copy the file too");
}

}  // namespace

bool is_peft_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(folder / kPeftConfigName, ignored);
}

PeftAdapter read_peft_adapter(const std::filesystem::path& folder) {
  PeftAdapter adapter;
  adapter.config = read_peft_config(folder);
  const std::unique_ptr<TensorSource> source = open_peft_weights(folder);
  const PeftRules rules(adapter.config, (folder / kPeftConfigName).string());
  const PeftIndex index = index_peft_tensors(*source);
  for (const auto& [module, pair] : index.lora) {
    check_peft_pair(*source, rules, module, pair);
    check_peft_magnitude(*source, adapter.config, module, pair);
  }
  check_peft_full(*source, adapter.config, rules, index);

  for (const auto& [module, pair] : index.lora) {
    adapter.lora[module] = load_peft_pair(*source, pair, rules.scaling_of(module));
  }
  for (const auto& [module, info] : index.full) {
    adapter.full[module + ".weight"] = source->load(info->name);
  }
  return adapter;
}

}  // namespace llama2zh
