// A recursive descent over GBNF that builds the automaton as it reads. Rules may be named before they
// are defined: each name has its two states from its first mention on.
#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/character_ranges.h"
#include "engine/repetition.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/engine/constraint.h"

namespace llama2zh {
namespace {

class GbnfReader {
 public:
  explicit GbnfReader(const std::string& text) : text_(utf8_to_codepoints(text)) {}

  Grammar read() {
    skip_space(true);
    if (at_ == text_.size()) fail("it has no rules");
    while (at_ < text_.size()) read_rule();
    for (const auto& [name, rule] : rules_)
      if (!rule.defined) fail(cat("the rule \"", name, "\" is called and not defined"));
    const auto root = rules_.find("root");
    if (root == rules_.end()) fail("it has no rule \"root\", with which the text begins");
    grammar_.set_root(root->second.part);
    return std::move(grammar_);
  }

 private:
  struct Rule {
    Grammar::Part part;
    bool defined = false;
  };

  [[noreturn]] void fail(const std::string& what) const {
    const auto end = text_.begin() + static_cast<std::ptrdiff_t>(std::min(at_, text_.size()));
    fail_usage("grammar", cat("line ", 1 + std::count(text_.begin(), end, U'\n'), ": ", what));
  }
  bool peek(char32_t c) const { return at_ < text_.size() && text_[at_] == c; }
  bool take_if(char32_t c) {
    if (!peek(c)) return false;
    ++at_;
    return true;
  }
  char32_t take() {
    if (at_ == text_.size()) fail("it ends too early");
    return text_[at_++];
  }
  // Blanks and comments; new lines too where the rule can't end.
  void skip_space(bool lines) {
    while (at_ < text_.size()) {
      const char32_t c = text_[at_];
      if (c == U'#') {
        while (at_ < text_.size() && text_[at_] != U'\n') ++at_;
      } else if (c == U' ' || c == U'\t' || c == U'\r' || (lines && c == U'\n')) {
        ++at_;
      } else {
        return;
      }
    }
  }

  static bool in_name(char32_t c) {
    return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z') || (c >= U'0' && c <= U'9') ||
           c == U'-' || c == U'_';
  }
  std::string name() {
    std::string out;
    while (at_ < text_.size() && in_name(text_[at_])) out += static_cast<char>(text_[at_++]);
    if (out.empty()) fail("expected the name of a rule");
    return out;
  }
  Rule& rule_named(const std::string& name) {
    const auto [it, is_new] = rules_.try_emplace(name);
    if (is_new) {
      it->second.part = {grammar_.add_state(), grammar_.add_state()};
      grammar_.mark_rule_end(it->second.part.end);
    }
    return it->second;
  }

  void read_rule() {
    const std::string called = name();
    skip_space(false);
    for (const char32_t c : {U':', U':', U'='})
      if (take() != c) fail(cat("expected ::= behind \"", called, "\""));
    Rule& rule = rule_named(called);
    if (rule.defined) fail(cat("the rule \"", called, "\" is there already"));
    rule.defined = true;
    skip_space(true);
    const Grammar::Part body = alternatives(false);
    grammar_.add_nothing(rule.part.start, body.start);
    grammar_.add_nothing(body.end, rule.part.end);
    if (at_ < text_.size() && !peek('\n')) fail("expected the end of the rule");
    skip_space(true);
  }

  Grammar::Part alternatives(bool nested) {
    std::vector<Grammar::Part> parts = {sequence(nested)};
    while (take_if('|')) {
      skip_space(true);
      parts.push_back(sequence(nested));
    }
    return grammar_.alternatives(parts);
  }

  bool sequence_ends(bool nested) const {
    return at_ == text_.size() || peek('|') || peek(')') || (!nested && peek('\n'));
  }

  Grammar::Part sequence(bool nested) {
    std::vector<Grammar::Part> parts;
    for (skip_space(nested); !sequence_ends(nested); skip_space(nested))
      parts.push_back(repeated_element());
    return grammar_.in_order(parts);
  }

  Grammar::Part repeated_element() {
    const size_t begin = at_;
    const Grammar::Part once = element();
    skip_space(false);
    const std::optional<Repetition> times =
        read_repetition(text_, at_, [this](const std::string& what) { fail(what); });
    if (!times) return once;
    const size_t end = at_;
    const Grammar::Part all = repeat(grammar_, *times, [&] {
      at_ = begin;
      return element();
    });
    at_ = end;
    return all;
  }

  Grammar::Part element() {
    const char32_t c = take();
    if (c == U'"') return literal();
    if (c == U'[') return characters(character_class());
    if (c == U'.') return characters({{0, kLastCharacter}});
    if (c == U'(') return group();
    --at_;
    if (!in_name(c)) fail(cat("\"", utf8_of(c), "\" is not expected here"));
    const Grammar::Part called = rule_named(name()).part;
    const Grammar::Part part{grammar_.add_state(), grammar_.add_state()};
    grammar_.add_call(part.start, called, part.end);
    return part;
  }

  Grammar::Part group() {
    if (++depth_ > kMostDepth) fail("its groups are nested too deeply");
    skip_space(true);
    const Grammar::Part inside = alternatives(true);
    skip_space(true);
    if (!take_if(')')) fail("a \")\" is missing");
    --depth_;
    return inside;
  }

  Grammar::Part literal() {
    std::string out;
    while (!peek('"')) append_utf8(out, character());
    ++at_;
    return grammar_.bytes(out);
  }

  static std::string utf8_of(char32_t c) {
    std::string out;
    append_utf8(out, c);
    return out;
  }

  // One of a literal or a class, escaped or not.
  char32_t character() {
    const char32_t c = take();
    if (c == U'\n') fail("a literal ends on its line");
    if (c != U'\\') return c;
    const char32_t escaped = take();
    switch (escaped) {
      case U'n':
        return U'\n';
      case U'r':
        return U'\r';
      case U't':
        return U'\t';
      case U'x':
        return hexadecimal(2);
      case U'u':
        return hexadecimal(4);
      case U'U':
        return hexadecimal(8);
      case U'"':
      case U'\\':
      case U'[':
      case U']':
      case U'-':
      case U'^':
        return escaped;
      default:
        fail(cat("\\", utf8_of(escaped), " is not known"));
    }
  }
  char32_t hexadecimal(int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = take();
      const uint32_t digit = c >= U'0' && c <= U'9'   ? c - U'0'
                             : c >= U'a' && c <= U'f' ? c - U'a' + 10
                             : c >= U'A' && c <= U'F' ? c - U'A' + 10
                                                      : 16;
      if (digit == 16) fail("a \\x, \\u or \\U lacks hexadecimal digits");
      value = value * 16 + digit;
    }
    if (value > kLastCharacter || (value >= 0xD800 && value <= 0xDFFF))
      fail("there is no such character");
    return value;
  }

  CharacterRanges character_class() {
    const bool negated = take_if('^');
    CharacterRanges ranges;
    while (!take_if(']')) {
      const char32_t first = character();
      char32_t last = first;
      if (peek('-') && at_ + 1 < text_.size() && text_[at_ + 1] != U']') {
        ++at_;
        last = character();
        if (last < first) fail("a range in [] is wrong");
      }
      ranges.emplace_back(first, last);
    }
    if (ranges.empty() && !negated) fail("[] matches nothing");
    return negated ? complement(ranges) : ranges;
  }
  Grammar::Part characters(const CharacterRanges& ranges) {
    const Grammar::Part part{grammar_.add_state(), grammar_.add_state()};
    for (const auto& [low, high] : ranges) grammar_.add_characters(part.start, low, high, part.end);
    return part;
  }

  static constexpr int kMostDepth = 100;  // grammars may come from strangers
  Grammar grammar_;
  std::vector<char32_t> text_;
  size_t at_ = 0;
  int depth_ = 0;
  std::map<std::string, Rule> rules_;
};

}  // namespace

Grammar gbnf_grammar(const std::string& text) {
  if (!is_utf8(text)) fail_usage("grammar", "it is not UTF-8");
  return GbnfReader(text).read();
}

}  // namespace llama2zh
