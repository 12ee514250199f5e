#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace llama2zh {

// One regex of an adapter_config.json, matched against module paths. The pattern comes from a
// stranger's file, so its length is capped (1,000 characters) and matching is breadth-first:
// polynomial in the path's length, where backtracking would be exponential. Back-references are
// refused. What Python's re has beyond ECMAScript (lookbehind, inline flags) is refused, too.
class ModulePattern {
 public:
  enum class Anchor {
    kWholePath,   // re.fullmatch(pattern, path): target_modules as text
    kPathSuffix,  // re.match("(.*\\.)?(pattern)$", path): keys of rank_pattern and alpha_pattern
  };
  // kFormat naming `where` if the pattern cannot be used.
  ModulePattern(std::string_view pattern, Anchor anchor, std::string_view where);
  ~ModulePattern();
  ModulePattern(ModulePattern&&) noexcept;
  ModulePattern& operator=(ModulePattern&&) noexcept;

  bool matches(std::string_view module) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llama2zh
