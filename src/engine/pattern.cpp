// A recursive descent over ECMAScript's syntax that builds the automaton as it reads.
#include "engine/pattern.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "engine/repetition.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/engine/constraint.h"

namespace llama2zh {
namespace {

using CharacterMaker = std::function<Grammar::Part(const CharacterRanges&)>;

class PatternReader {
 public:
  // `key`, `where`: what errors name. `character` makes one out of several characters.
  PatternReader(Grammar& grammar, CharacterMaker character, const std::string& pattern,
                std::string key, std::string where)
      : grammar_(&grammar),
        character_(std::move(character)),
        key_(std::move(key)),
        where_(std::move(where)),
        pattern_(pattern),
        text_(utf8_to_codepoints(pattern)) {}

  // `whole`: the text from its first to its last character, else anything may stand around it.
  Grammar::Part read(bool whole) {
    const bool from_start = peek('^');
    if (from_start) ++at_;
    const bool to_end = text_.size() > at_ && text_.back() == U'$' &&
                        (text_.size() < 2 || text_[text_.size() - 2] != U'\\');
    if (to_end) text_.pop_back();
    if ((from_start || to_end) && has_outer_alternatives())
      fail("an anchor beside an outer \"|\" is not supported; put the alternatives in a group");
    const Grammar::Part body = alternatives();
    if (at_ < text_.size()) fail("there is a \")\" too many");
    std::vector<Grammar::Part> parts;
    if (!from_start && !whole) parts.push_back(anything());
    parts.push_back(body);
    if (!to_end && !whole) parts.push_back(anything());
    return grammar_->in_order(parts);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    fail_usage(key_, cat(where_, "pattern \"", pattern_, "\": ", what));
  }
  bool peek(char32_t c) const { return at_ < text_.size() && text_[at_] == c; }
  char32_t take() {
    if (at_ == text_.size()) fail("it ends too early");
    return text_[at_++];
  }
  bool has_outer_alternatives() const {
    int depth = 0;
    for (size_t i = at_; i < text_.size(); ++i) {
      if (text_[i] == U'\\') {
        ++i;
      } else if (text_[i] == U'(') {
        ++depth;
      } else if (text_[i] == U')') {
        --depth;
      } else if (text_[i] == U'|' && depth == 0) {
        return true;
      }
    }
    return false;
  }
  Grammar::Part anything() {
    return repeat(*grammar_, {0, -1}, [this] { return character_({{0, kLastCharacter}}); });
  }

  Grammar::Part alternatives() {
    std::vector<Grammar::Part> parts = {sequence()};
    while (peek('|')) {
      ++at_;
      parts.push_back(sequence());
    }
    return grammar_->alternatives(parts);
  }

  Grammar::Part sequence() {
    std::vector<Grammar::Part> parts;
    while (at_ < text_.size() && !peek('|') && !peek(')')) {
      const size_t begin = at_;
      parts.push_back(atom());
      std::optional<Repetition> times =
          read_repetition(text_, at_, [this](const std::string& what) { fail(what); });
      if (!times) continue;
      if (peek('?')) ++at_;  // lazy or not, the language is the same
      const size_t end = at_;
      parts.pop_back();
      parts.push_back(repeat(*grammar_, *times, [&] {
        at_ = begin;
        return atom();
      }));
      at_ = end;
    }
    return grammar_->in_order(parts);
  }

  Grammar::Part atom() {
    const char32_t c = take();
    if (c == U'(') return group();
    if (c == U'[') return character_(character_class());
    if (c == U'.') return character_(complement({{'\n', '\n'}, {'\r', '\r'}}));
    if (c == U'\\') return character_(escape());
    if (c == U'^' || c == U'$') fail("anchors inside it are not supported");
    if (c == U'?' || c == U'*' || c == U'+' || c == U'{') fail("there is nothing to repeat");
    const auto point = static_cast<uint32_t>(c);
    return character_({{point, point}});
  }

  Grammar::Part group() {
    if (peek('?')) {
      ++at_;
      if (take() != U':')
        fail("groups that begin with \"(?\" other than \"(?:\" are not supported");
    }
    if (++depth_ > kMostDepth) fail("its groups are nested too deeply");
    const Grammar::Part part = alternatives();
    --depth_;
    if (!peek(')')) fail("a \")\" is missing");
    ++at_;
    return part;
  }

  // Behind a backslash.
  CharacterRanges escape() {
    const char32_t c = take();
    CharacterRanges digit = {{'0', '9'}};
    CharacterRanges word = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    CharacterRanges blank = {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},
                             {0x2028, 0x2029}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    switch (c) {
      case U'd':
        return digit;
      case U'D':
        return complement(digit);
      case U'w':
        return word;
      case U'W':
        return complement(word);
      case U's':
        return blank;
      case U'S':
        return complement(blank);
      case U'n':
        return {{'\n', '\n'}};
      case U't':
        return {{'\t', '\t'}};
      case U'r':
        return {{'\r', '\r'}};
      default:
        break;
    }
    const bool letter =
        (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z') || (c >= U'0' && c <= U'9');
    if (letter) fail(cat("\\", std::string(1, static_cast<char>(c)), " is not supported"));
    const auto point = static_cast<uint32_t>(c);
    return {{point, point}};
  }

  // Behind "[".
  CharacterRanges character_class() {
    const bool negated = peek('^');
    if (negated) ++at_;
    CharacterRanges ranges;
    const auto one = [&] {
      const char32_t c = take();
      const auto point = static_cast<uint32_t>(c);
      return c == U'\\' ? escape() : CharacterRanges{{point, point}};
    };
    while (!peek(']')) {
      const CharacterRanges first = one();
      const bool range = peek('-') && at_ + 1 < text_.size() && text_[at_ + 1] != U']';
      if (!range) {
        ranges.insert(ranges.end(), first.begin(), first.end());
        continue;
      }
      ++at_;
      const CharacterRanges last = one();
      const bool single = first.size() == 1 && first[0].first == first[0].second &&
                          last.size() == 1 && last[0].first == last[0].second;
      if (!single || first[0].first > last[0].first) fail("a range in [] is wrong");
      ranges.emplace_back(first[0].first, last[0].first);
    }
    ++at_;
    if (ranges.empty()) fail("[] matches nothing");
    return negated ? complement(ranges) : ranges;
  }

  Grammar* grammar_;
  CharacterMaker character_;
  std::string key_, where_;
  std::string pattern_;
  std::vector<char32_t> text_;
  size_t at_ = 0;
  static constexpr int kMostDepth = 100;  // patterns may come from strangers
  int depth_ = 0;
};

}  // namespace

CharacterRanges complement(CharacterRanges ranges) {
  std::sort(ranges.begin(), ranges.end());
  CharacterRanges out;
  uint32_t next = 0;
  for (const auto& [low, high] : ranges) {
    if (low > next) out.emplace_back(next, low - 1);
    next = std::max(next, high + 1);
  }
  if (next <= kLastCharacter) out.emplace_back(next, kLastCharacter);
  return out;
}

Grammar::Part pattern_content(JsonGrammar& grammar, const std::string& pattern,
                              const std::string& where) {
  const auto character = [&](const CharacterRanges& ranges) {
    return grammar.character_of(ranges);
  };
  return PatternReader(grammar.grammar, character, pattern, "json_schema", where + ": ")
      .read(false);
}

Grammar pattern_grammar(const std::string& pattern) {
  if (!is_utf8(pattern)) fail_usage("pattern", "it is not UTF-8");
  Grammar grammar;
  const auto character = [&](const CharacterRanges& ranges) {
    const Grammar::Part part{grammar.add_state(), grammar.add_state()};
    for (const auto& [low, high] : ranges) grammar.add_characters(part.start, low, high, part.end);
    return part;
  };
  grammar.set_root(PatternReader(grammar, character, pattern, "pattern", "").read(true));
  return grammar;
}

}  // namespace llama2zh
