#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace llama2zh {

// A regular expression of a tokenizer.json (written for Oniguruma), matched by PCRE2 with Unicode
// classes. Const methods are thread-safe; each thread brings its own State.
class SplitPattern {
 public:
  struct Code;
  struct StateDeleter {
    void operator()(void* state) const;
  };
  using State = std::unique_ptr<void, StateDeleter>;
  struct Range {
    size_t begin, end;
  };

  // kFormat naming `where`: a pattern that does not compile, is longer than 4096 bytes, or holds what
  // the two libraries understand differently.
  SplitPattern(const std::string& pattern, std::string where);

  State make_state() const;
  // The first match of `text`, which is valid UTF-8, at or behind `from`. kData naming the pattern if
  // it takes too many steps on this text.
  std::optional<Range> find(std::string_view text, size_t from, const State& state) const;

 private:
  std::string pattern_, where_;
  std::shared_ptr<const Code> code_;
};

// `text` as a pattern that matches only itself.
std::string escaped_pattern(std::string_view text);

}  // namespace llama2zh
