// Matching of names follows peft/tuners/tuners_utils.py: a list entry is a module's whole path or its
// end after a dot, a text is a regex on the whole path.
#include <algorithm>
#include <cmath>

#include "formats/peft_config.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

bool ends_with_component(std::string_view path, std::string_view name) {
  return path.ends_with(name) &&
         (path.size() == name.size() || path[path.size() - name.size() - 1] == '.');
}

}  // namespace

PeftRules::PeftRules(const PeftConfig& config, std::string_view where) : config_(config) {
  if (config.target_is_regex) {
    for (const std::string& pattern : config.target_modules) {
      target_.emplace_back(pattern, ModulePattern::Anchor::kWholePath,
                           cat(where, ": target_modules"));
    }
  }
  for (const auto& [pattern, value] : config.rank_pattern) {
    ranks_.emplace_back(
        ModulePattern(pattern, ModulePattern::Anchor::kPathSuffix, cat(where, ": rank_pattern")),
        value);
  }
  for (const auto& [pattern, value] : config.alpha_pattern) {
    alphas_.emplace_back(
        ModulePattern(pattern, ModulePattern::Anchor::kPathSuffix, cat(where, ": alpha_pattern")),
        value);
  }
}

bool PeftRules::targets(std::string_view module) const {
  if (config_.target_is_regex) {
    return std::any_of(target_.begin(), target_.end(),
                       [&](const ModulePattern& pattern) { return pattern.matches(module); });
  }
  return std::any_of(config_.target_modules.begin(), config_.target_modules.end(),
                     [&](const std::string& name) { return ends_with_component(module, name); });
}

bool PeftRules::saves(std::string_view module) const {
  // A plain end, without a dot, as peft/utils/other.py has it.
  return std::any_of(config_.modules_to_save.begin(), config_.modules_to_save.end(),
                     [&](const std::string& name) { return module.ends_with(name); });
}

int64_t PeftRules::rank_of(std::string_view module) const {
  for (const auto& [pattern, value] : ranks_) {
    if (pattern.matches(module)) return value;
  }
  return config_.rank;
}

double PeftRules::scaling_of(std::string_view module) const {
  double alpha = config_.alpha;
  for (const auto& [pattern, value] : alphas_) {
    if (pattern.matches(module)) {
      alpha = value;
      break;
    }
  }
  const double rank = static_cast<double>(rank_of(module));
  return alpha / (config_.use_rslora ? std::sqrt(rank) : rank);
}

double PeftConfig::scaling() const {
  const double r = static_cast<double>(rank);
  return alpha / (use_rslora ? std::sqrt(r) : r);
}

int64_t PeftConfig::rank_of(std::string_view module) const {
  return PeftRules(*this, kPeftConfigName).rank_of(module);
}

double PeftConfig::scaling_of(std::string_view module) const {
  return PeftRules(*this, kPeftConfigName).scaling_of(module);
}

bool PeftConfig::targets(std::string_view module) const {
  return PeftRules(*this, kPeftConfigName).targets(module);
}

}  // namespace llama2zh
