// Regexes on module paths. PEFT matches with Python's re; the patterns in use ("q_proj",
// ".*self_attn\.(q|v)_proj", "layers\.1[0-9]\..*") mean the same in ECMAScript's grammar.
// libstdc++'s
// __polynomial flag selects its breadth-first matcher: "(a*)*b" over a long path ends at once.
#include "formats/module_pattern.h"

#include <regex>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

namespace {
constexpr size_t kMaxModulePattern = 1000;
constexpr size_t kMaxModulePath = 1000;
}  // namespace

struct ModulePattern::Impl {
  std::regex regex;
};

ModulePattern::ModulePattern(std::string_view pattern, Anchor anchor, std::string_view where)
    : impl_(std::make_unique<Impl>()) {
  if (pattern.size() > kMaxModulePattern) {
    fail_format(where, cat("the pattern has ", pattern.size(), " characters, expected at most ",
                           kMaxModulePattern));
  }
  const std::string text =
      anchor == Anchor::kWholePath ? cat("(?:", pattern, ")") : cat("(?:.*\\.)?(?:", pattern, ")");
  try {
    // First alone: a pattern such as "a)|(b" must not lean on the parentheses put around it.
    const auto flags = std::regex::ECMAScript | std::regex_constants::__polynomial;
    const std::regex alone(pattern.begin(), pattern.end(), flags);
    impl_->regex = std::regex(text, flags);
  } catch (const std::regex_error& error) {
    fail_format(
        where,
        cat("\"", pattern, "\" is not a regular expression we can read (", error.what(), ")"),
        "write it without back-references, lookbehind, inline flags and large repeats");
  }
}

ModulePattern::~ModulePattern() = default;
ModulePattern::ModulePattern(ModulePattern&&) noexcept = default;
ModulePattern& ModulePattern::operator=(ModulePattern&&) noexcept = default;

bool ModulePattern::matches(std::string_view module) const {
  if (module.size() > kMaxModulePath) return false;
  try {
    return std::regex_match(module.begin(), module.end(), impl_->regex);
  } catch (const std::regex_error& error) {
    fail_format("adapter_config.json", cat("matching a module path failed (", error.what(), ")"));
  }
}

}  // namespace llama2zh
