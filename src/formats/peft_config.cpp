// adapter_config.json (PEFT 0.3 to 0.21). New releases write forty keys and more; a key we do not
// know is harmless when it is null, false or empty and is refused otherwise, since it may change
// the mathematics.
#include "formats/peft_config.h"

#include <algorithm>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {

namespace {

// PEFT's way to say that no module gets LoRA (peft/utils/constants.py).
constexpr const char* kNoTargets = "dummy-target-modules";
constexpr int64_t kMaxPeftRank = 65536;
constexpr size_t kMaxPeftNames = 4096;
constexpr size_t kMaxPeftPatterns = 256;

// Reads members of the config with the checks and messages they all share.
class PeftConfigReader {
 public:
  PeftConfigReader(const ordered_json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  // Null if the key is absent or null.
  const ordered_json* get(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  std::string at(std::string_view key) const { return cat(where_, ": ", key); }

  int64_t integer(std::string_view key, const ordered_json& value) const {
    if (!value.is_number_integer()) fail_type(key, value, "a whole number");
    if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) {
      fail_type(key, value, "a smaller number");
    }
    return value.get<int64_t>();
  }

  double number(std::string_view key, const ordered_json& value) const {
    if (!value.is_number()) fail_type(key, value, "a number");
    return value.get<double>();
  }

  bool boolean(const char* key) const {
    const ordered_json* value = get(key);
    if (!value) return false;
    if (!value->is_boolean()) fail_type(key, *value, "true or false");
    return value->get<bool>();
  }

  std::string text(const char* key) const {
    const ordered_json* value = get(key);
    if (!value) return "";
    if (!value->is_string()) fail_type(key, *value, "a text");
    return value->get<std::string>();
  }

  std::vector<std::string> names(std::string_view key, const ordered_json& value) const {
    if (!value.is_array() || value.size() > kMaxPeftNames) {
      fail_type(key, value, cat("a list of at most ", kMaxPeftNames, " names"));
    }
    std::vector<std::string> result;
    for (const ordered_json& item : value) {
      if (!item.is_string() || item.get_ref<const std::string&>().empty()) {
        fail_type(key, item, "a name");
      }
      result.push_back(item.get<std::string>());
    }
    return result;
  }

  template <typename Value, typename Check>
  std::vector<std::pair<std::string, Value>> pattern(const char* key, Check check) const {
    std::vector<std::pair<std::string, Value>> result;
    const ordered_json* value = get(key);
    if (!value) return result;
    if (!value->is_object() || value->size() > kMaxPeftPatterns) {
      fail_type(key, *value, cat("an object of at most ", kMaxPeftPatterns, " patterns"));
    }
    for (const auto& [name, item] : value->items()) {
      result.emplace_back(name, check(cat(key, ".", name), item));
    }
    return result;
  }

  int64_t rank(std::string_view key, const ordered_json& value) const {
    const int64_t result = integer(key, value);
    if (result < 1 || result > kMaxPeftRank) {
      fail_type(key, value, cat("a rank from 1 to ", kMaxPeftRank));
    }
    return result;
  }

  double alpha(std::string_view key, const ordered_json& value) const {
    const double result = number(key, value);
    if (!std::isfinite(result) || result <= 0) fail_type(key, value, "a number above 0");
    return result;
  }

  [[noreturn]] void fail_type(std::string_view key, const ordered_json& value,
                              std::string_view expected) const {
    std::string shown = value.dump();
    if (shown.size() > 60) shown = value.type_name();
    fail_format(at(key), cat("is ", shown, ", expected ", expected));
  }

 private:
  const ordered_json& object_;
  std::string where_;
};

bool is_unset(const ordered_json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  return value.is_null() || ((value.is_structured() || value.is_string()) && value.empty());
}

// What merely describes, and what is handled one by one below.
bool is_harmless_peft_key(std::string_view key) {
  static constexpr std::string_view kKeys[] = {
      "peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "lora_dropout",
      "target_modules", "modules_to_save", "bias", "fan_in_fan_out", "use_rslora", "use_dora",
      "rank_pattern", "alpha_pattern", "init_lora_weights", "exclude_modules",
      "layers_to_transform", "layers_pattern",
      // Only about where the adapter came from or how it is run.
      "auto_mapping", "revision", "inference_mode", "peft_version", "runtime_config",
      // Defaults that are not null but do nothing by themselves.
      "megatron_core", "qalora_group_size"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

// How A and B were born does not matter to a finished adapter, unless the birth changed the base:
// pissa, olora, corda, loftq, lora_ga take away from the base weight what they put into B A.
void check_peft_init(const PeftConfigReader& reader) {
  const ordered_json* init = reader.get("init_lora_weights");
  if (!init || init->is_boolean()) return;
  if (*init == "gaussian" || *init == "eva" || *init == "orthogonal") return;
  fail_format(reader.at("init_lora_weights"),
              cat("is ", init->dump(), ": such an adapter belongs to a changed base"),
              "save it from PEFT with path_initial_model_for_weight_conversion");
}

void check_peft_kind(const ordered_json& object, const PeftConfigReader& reader) {
  if (const std::string type = reader.text("peft_type"); type != "LORA") {
    fail_format(reader.at("peft_type"), cat("is \"", type, "\", expected \"LORA\""));
  }
  if (const std::string task = reader.text("task_type"); !task.empty() && task != "CAUSAL_LM") {
    fail_format(reader.at("task_type"), cat("is \"", task, "\", expected \"CAUSAL_LM\""));
  }
  if (const std::string bias = reader.text("bias"); !bias.empty() && bias != "none") {
    fail_format(reader.at("bias"),
                cat("is \"", bias, "\", expected \"none\": LLaMA's layers have no bias"));
  }
  check_peft_init(reader);
  for (const auto& [key, value] : object.items()) {
    if (is_harmless_peft_key(key) || is_unset(value)) continue;
    fail_format(reader.at(key), "is set, but adapters that use it are not supported",
                "merge the adapter into its base with PEFT and use the merged model");
  }
}

std::vector<std::string> all_linear_names() {
  return {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
}

void read_peft_targets(const PeftConfigReader& reader, PeftConfig& config) {
  const ordered_json* target = reader.get("target_modules");
  if (!target) {
    config.target_modules = {"q_proj", "v_proj"};  // PEFT's choice for model_type "llama"
  } else if (*target == kNoTargets) {
    config.target_modules.clear();
  } else if (target->is_string()) {
    const std::string text = target->get<std::string>();
    std::string lower = text;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    config.target_is_regex = lower != "all-linear";
    config.target_modules =
        config.target_is_regex ? std::vector<std::string>{text} : all_linear_names();
  } else {
    config.target_modules = reader.names("target_modules", *target);
  }
}

// 32.0 -> 32: PEFT declares lora_alpha as an int, and old releases format it as one.
ordered_json number_json(double value) {
  if (std::nearbyint(value) == value && std::abs(value) < 9e15) {
    return ordered_json(static_cast<int64_t>(value));
  }
  return ordered_json(value);
}

}  // namespace

PeftConfig read_peft_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kPeftConfigName;
  const ordered_json object = read_ordered_json_file(path);
  if (!object.is_object()) fail_format(path.string(), "expected a JSON object");
  const PeftConfigReader reader(object, path.string());
  check_peft_kind(object, reader);

  PeftConfig config;
  config.base_model = reader.text("base_model_name_or_path");
  if (const ordered_json* value = reader.get("r")) config.rank = reader.rank("r", *value);
  if (const ordered_json* value = reader.get("lora_alpha")) {
    config.alpha = reader.alpha("lora_alpha", *value);
  }
  if (const ordered_json* value = reader.get("lora_dropout")) {
    config.dropout = reader.number("lora_dropout", *value);
    if (!(config.dropout >= 0 && config.dropout <= 1)) {
      reader.fail_type("lora_dropout", *value, "a number from 0 to 1");
    }
  }
  config.use_rslora = reader.boolean("use_rslora");
  config.use_dora = reader.boolean("use_dora");
  config.fan_in_fan_out = reader.boolean("fan_in_fan_out");
  read_peft_targets(reader, config);
  if (const ordered_json* value = reader.get("modules_to_save")) {
    config.modules_to_save = reader.names("modules_to_save", *value);
  }
  config.rank_pattern = reader.pattern<int64_t>(
      "rank_pattern",
      [&](const std::string& key, const ordered_json& value) { return reader.rank(key, value); });
  config.alpha_pattern = reader.pattern<double>(
      "alpha_pattern",
      [&](const std::string& key, const ordered_json& value) { return reader.alpha(key, value); });
  for (const char* key : {"exclude_modules", "layers_to_transform", "layers_pattern"}) {
    if (const ordered_json* value = reader.get(key); value && !is_unset(*value)) {
      config.selection[key] = *value;
    }
  }
  const PeftRules compiles(config, path.string());
  return config;
}

ordered_json peft_config_json(const PeftConfig& config) {
  ordered_json out;
  out["peft_type"] = "LORA";
  out["task_type"] = "CAUSAL_LM";
  out["base_model_name_or_path"] = utf8_sanitize(config.base_model);  // a path can be any bytes
  out["r"] = config.rank;
  out["lora_alpha"] = number_json(config.alpha);
  out["lora_dropout"] = config.dropout;
  if (config.target_modules.empty()) {
    out["target_modules"] = kNoTargets;
  } else if (config.target_is_regex && config.target_modules.size() == 1) {
    out["target_modules"] = config.target_modules.front();
  } else {
    out["target_modules"] = config.target_modules;
  }
  out["modules_to_save"] =
      config.modules_to_save.empty() ? ordered_json() : ordered_json(config.modules_to_save);
  out["bias"] = "none";
  out["fan_in_fan_out"] = config.fan_in_fan_out;
  out["inference_mode"] = true;
  if (config.use_rslora) out["use_rslora"] = true;
  if (config.use_dora) out["use_dora"] = true;
  for (const auto& [pattern, value] : config.rank_pattern) out["rank_pattern"][pattern] = value;
  for (const auto& [pattern, value] : config.alpha_pattern) {
    out["alpha_pattern"][pattern] = number_json(value);
  }
  for (const auto& [key, value] : config.selection.items()) out[key] = value;
  return out;
}

}  // namespace llama2zh
