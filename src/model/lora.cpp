// LoRA (Hu et al. 2021) and DoRA (Liu et al. 2024) on the projections, and modules trained in full
// beside it, as PEFT does it: A starts random, B zero, so that training starts from the base model's
// function.
#include "llama2zh/model/lora.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <regex>
#include <sstream>
#include <utility>

#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/lora_patterns.h"

namespace llama2zh {
namespace {

constexpr double kMaxRank = 4096;

std::string leaf_of(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::string full_name(const std::string& module) {
  if (module == "embed_tokens") return kEmbeddingName;
  if (module == "lm_head") return kHeadName;
  fail_usage("modules_to_save", cat("\"", module, "\" can't be trained in full"),
             "expected embed_tokens, lm_head, or none");
}

at::Tensor initial_a(const LoraConfig& config, int64_t rank, int64_t in_features,
                     const at::Generator& random) {
  at::Tensor a = at::empty({rank, in_features}, at::kFloat);
  if (config.init == "gaussian") return a.normal_(0, 1.0 / static_cast<double>(rank), random);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in_features));
  return a.uniform_(-bound, bound, random);
}

void check_targets(const std::vector<std::string>& targets) {
  const std::vector<std::string> known = LoraConfig().target_modules;
  for (const std::string& target : targets) {
    if (std::find(known.begin(), known.end(), target) != known.end()) continue;
    const std::string near = nearest(target, known);
    fail_usage("target_modules", cat("the model has no projection \"", target, "\""),
               near.empty() ? cat("expected some of ", join(known, ", "))
                            : cat("did you mean \"", near, "\"?"));
  }
}

// "PATTERN=NUMBER"
std::pair<std::string, double> parse_pattern(const std::string& text, const char* key) {
  const size_t equals = text.rfind('=');
  const std::string tail = equals == std::string::npos ? "" : text.substr(equals + 1);
  std::istringstream in(tail);
  double value = 0;
  const bool number = !tail.empty() && (in >> value) && in.eof();
  if (equals == 0 || !number || !(value > 0)) {
    fail_usage(key, cat("\"", text, "\" is not PATTERN=NUMBER with a number above 0"),
               "write for example \"down_proj=64\"");
  }
  const std::string pattern = text.substr(0, equals);
  try {
    const std::regex compiles(pattern);
  } catch (const std::regex_error& error) {
    fail_usage(key, cat("\"", pattern, "\" is not a regular expression (", error.what(), ")"));
  }
  return {pattern, value};
}

template <typename Value>
std::vector<std::string> pattern_texts(const std::vector<std::pair<std::string, Value>>& patterns) {
  std::vector<std::string> texts;
  for (const auto& [pattern, value] : patterns) texts.push_back(cat(pattern, "=", value));
  return texts;
}

Lora initial_lora(const LoraConfig& config, const PeftConfig& rules, const std::string& name,
                  const Linear& linear, at::Device device, const at::Generator& random) {
  const int64_t rank = rules.rank_of(name);
  Lora lora;
  lora.a = initial_a(config, rank, linear.in_features(), random).to(device);
  lora.b = at::zeros({linear.out_features(), rank}, at::TensorOptions(device).dtype(at::kFloat));
  lora.scaling = rules.scaling_of(name);
  lora.dropout = config.dropout;
  if (config.use_dora) {
    lora.base_squares = row_squares(linear).to(device);
    lora.magnitude = lora.base_squares.sqrt();
  }
  return lora;
}

// A pattern that matches no adapted module is a slip of the pen.
template <typename Value>
void check_patterns_used(const std::vector<std::pair<std::string, Value>>& patterns,
                         const std::vector<std::string>& modules, const char* key) {
  for (const auto& [pattern, value] : patterns) {
    const std::regex regex(cat("(?:.*\\.)?(?:", pattern, ")"));
    const bool used = std::any_of(modules.begin(), modules.end(), [&](const std::string& module) {
      return std::regex_match(module, regex);
    });
    if (used) continue;
    fail_usage(key, cat("\"", pattern, "\" matches no module that gets an adapter"),
               modules.empty() ? "" : cat("paths are as \"", modules.back(), "\""));
  }
}

}  // namespace

PeftConfig to_peft_config(const LoraConfig& config) {
  PeftConfig peft;
  peft.rank = config.rank;
  peft.alpha = config.alpha;
  peft.dropout = config.dropout;
  peft.use_rslora = config.use_rslora;
  peft.use_dora = config.use_dora;
  peft.target_modules = config.target_modules;
  for (const std::string& text : config.rank_pattern) {
    const auto [pattern, value] = parse_pattern(text, "rank_pattern");
    if (value != std::floor(value) || value > kMaxRank) {
      fail_usage("rank_pattern", cat("\"", text, "\": expected a whole rank from 1 to ", kMaxRank));
    }
    peft.rank_pattern.emplace_back(pattern, static_cast<int64_t>(value));
  }
  for (const std::string& text : config.alpha_pattern) {
    peft.alpha_pattern.push_back(parse_pattern(text, "alpha_pattern"));
  }
  return peft;
}

std::vector<std::string> rank_pattern_texts(const PeftConfig& config) {
  return pattern_texts(config.rank_pattern);
}

std::vector<std::string> alpha_pattern_texts(const PeftConfig& config) {
  return pattern_texts(config.alpha_pattern);
}

void check_lora_patterns(const PeftConfig& rules, const std::vector<std::string>& adapted) {
  check_patterns_used(rules.rank_pattern, adapted, "lora.rank_pattern");
  check_patterns_used(rules.alpha_pattern, adapted, "lora.alpha_pattern");
}

void inject_lora(Llama& model, const LoraConfig& config, uint64_t seed, const TrainScope& scope) {
  check_targets(config.target_modules);
  std::vector<std::string> full, names, adapted;
  for (const std::string& module : config.modules_to_save) full.push_back(full_name(module));
  if (config.target_modules.empty() && full.empty()) {
    fail_usage("target_modules", "with target_modules and modules_to_save empty nothing trains");
  }
  const PeftConfig rules = to_peft_config(config);
  const FrozenNames frozen(scope.freeze);
  freeze_weights(model);
  const at::Generator random = at::detail::createCPUGenerator(seed);
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    linear.lora.reset();
    const auto& targets = config.target_modules;
    if (std::find(targets.begin(), targets.end(), leaf_of(name)) == targets.end()) return;
    linear.lora = initial_lora(config, rules, name, linear, model.device(), random);
    adapted.push_back(name);
  });
  check_lora_patterns(rules, adapted);
  mark_adapters(model, frozen, names);
  for (const std::string& name : full) {
    names.push_back(name);
    if (frozen.contains(name)) continue;
    train_full_weight(model, name, full_weight(model, name), scope.first_trained_row);
  }
  frozen.check_all_used(names);
}

}  // namespace llama2zh
