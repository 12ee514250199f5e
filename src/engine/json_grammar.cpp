// JSON (RFC 8259) in bytes.
#include "engine/json_grammar.h"

#include <algorithm>

#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr int64_t kMostIndent = 20;
constexpr int64_t kIntegerDigits = 18;  // fits 64 bits
constexpr int64_t kFractionDigits = 16;

}  // namespace

JsonGrammar::JsonGrammar() {
  Grammar& g = grammar;
  space_rule_ = rule(g.optional(g.bytes(" ")));
  Part indent = g.bytes("\n");
  const Part all{g.add_state(), g.add_state()};
  g.add_nothing(all.start, indent.start);
  for (int64_t i = 0;; ++i) {
    g.add_nothing(indent.end, all.end);
    if (i == kMostIndent) break;
    const Grammar::State next = g.add_state();
    g.add_bytes(indent.end, ' ', ' ', next);
    indent.end = next;
  }
  line_rule_ = rule(g.optional(all));
  comma_rule_ = rule(g.in_order({g.bytes(","), g.alternatives({space(), line()})}));
  character_rule_ = rule(character_of({{0, kLastCharacter}}));

  any_ = {g.add_state(), g.add_state()};
  g.mark_rule_end(any_.end);
  const std::vector<Part> kinds = {text(0, -1),     number(),     boolean(),
                                   g.bytes("null"), any_object(), list(any_, 0, -1)};
  const Part body = g.alternatives(kinds);
  g.add_nothing(any_.start, body.start);
  g.add_nothing(body.end, any_.end);
}

Grammar::Part JsonGrammar::rule(const Part& body) {
  const Part out{body.start, grammar.add_state()};
  grammar.add_nothing(body.end, out.end);
  grammar.mark_rule_end(out.end);
  return out;
}

Grammar::Part JsonGrammar::call(const Part& called) {
  const Part part{grammar.add_state(), grammar.add_state()};
  grammar.add_call(part.start, called, part.end);
  return part;
}

Grammar::Part JsonGrammar::space() { return call(space_rule_); }
Grammar::Part JsonGrammar::line() { return call(line_rule_); }
Grammar::Part JsonGrammar::character() { return call(character_rule_); }

Grammar::Part JsonGrammar::character_of(const CharacterRanges& ranges) {
  const Part part{grammar.add_state(), grammar.add_state()};
  const auto has = [&](uint32_t c) {
    return std::any_of(ranges.begin(), ranges.end(),
                       [c](const auto& range) { return range.first <= c && c <= range.second; });
  };
  for (const auto& range : ranges) {
    // What a string can't hold as it is.
    uint32_t low = std::max<uint32_t>(range.first, 0x20);
    for (const uint32_t special : {static_cast<uint32_t>('"'), static_cast<uint32_t>('\\')}) {
      if (low > special || range.second < special) continue;
      if (low < special) grammar.add_characters(part.start, low, special - 1, part.end);
      low = special + 1;
    }
    if (low <= range.second) grammar.add_characters(part.start, low, range.second, part.end);
  }
  const Grammar::State escaped = grammar.add_state();
  bool any = false;
  const std::pair<char, uint32_t> kEscapes[] = {{'"', '"'},  {'\\', '\\'}, {'b', '\b'}, {'f', '\f'},
                                                {'n', '\n'}, {'r', '\r'},  {'t', '\t'}};
  for (const auto& [letter, meant] : kEscapes) {
    if (!has(meant)) continue;
    const auto byte = static_cast<uint8_t>(letter);
    grammar.add_bytes(escaped, byte, byte, part.end);
    any = true;
  }
  if (any) grammar.add_bytes(part.start, '\\', '\\', escaped);
  return part;
}

Grammar::Part JsonGrammar::quoted(const Part& content) {
  return grammar.in_order({grammar.bytes("\""), content, grammar.bytes("\"")});
}

Grammar::Part JsonGrammar::text(int64_t least, int64_t most) {
  return quoted(repeated(character_rule_, rule(grammar.nothing()), least, most));
}

Grammar::Part JsonGrammar::repeated(const Part& item_rule, const Part& between_rule, int64_t least,
                                    int64_t most) {
  Grammar& g = grammar;
  const Part all{g.add_state(), g.add_state()};
  Grammar::State at = all.start;
  for (int64_t i = 0;; ++i) {  // i of them are there
    if (i >= least) g.add_nothing(at, all.end);
    if (i == most) return all;
    const bool loops = most < 0 && i >= std::max<int64_t>(least, 1);
    Grammar::State from = at;
    if (i > 0) {
      from = g.add_state();
      g.add_call(at, between_rule, from);
    }
    const Grammar::State next = loops ? at : g.add_state();
    g.add_call(from, item_rule, next);
    if (loops) return all;
    at = next;
  }
}

Grammar::Part JsonGrammar::list(const Part& item_rule, int64_t least, int64_t most) {
  Grammar& g = grammar;
  std::vector<Part> kinds;
  if (most != 0) {
    kinds.push_back(g.in_order(
        {line(), repeated(item_rule, comma_rule_, std::max<int64_t>(least, 1), most), line()}));
  }
  if (least == 0) kinds.push_back(g.nothing());
  return g.in_order({g.bytes("["), g.alternatives(kinds), g.bytes("]")});
}

Grammar::Part JsonGrammar::any_object() {
  Grammar& g = grammar;
  const Part pair = rule(g.in_order({text(0, -1), g.bytes(":"), space(), call(any_)}));
  return g.in_order({g.bytes("{"),
                     g.optional(g.in_order({line(), repeated(pair, comma_rule_, 1, -1), line()})),
                     g.bytes("}")});
}

// A tree of the names: leaving it anywhere makes another text, and so does ending inside it.
Grammar::Part JsonGrammar::text_other_than(const std::vector<std::string>& names) {
  Grammar& g = grammar;
  const Part all{g.add_state(), g.add_state()};
  const Grammar::State other = g.add_state();  // no name any more, whatever comes
  const auto plain = [&](Grammar::State from, const std::vector<uint32_t>& without,
                         Grammar::State to) {
    std::vector<uint32_t> borders = without;
    borders.insert(borders.end(), {'"', '\\'});
    std::sort(borders.begin(), borders.end());
    uint32_t low = 0x20;
    for (const uint32_t border : borders) {
      if (border > low) grammar.add_characters(from, low, border - 1, to);
      low = std::max(low, border + 1);
    }
    if (low <= kLastCharacter) grammar.add_characters(from, low, kLastCharacter, to);
  };
  const auto grow = [&](const auto& self, Grammar::State at,
                        const std::vector<std::u32string>& rest) -> void {
    std::vector<uint32_t> firsts;
    bool ends_name = false;
    for (const std::u32string& name : rest) {
      if (name.empty()) {
        ends_name = true;
      } else if (std::find(firsts.begin(), firsts.end(), name[0]) == firsts.end()) {
        firsts.push_back(name[0]);
      }
    }
    if (!ends_name) g.add_bytes(at, '"', '"', all.end);
    plain(at, firsts, other);
    for (const uint32_t first : firsts) {
      if (first < 0x20 || first == '"' || first == '\\') continue;  // never without an escape
      const Grammar::State next = g.add_state();
      grammar.add_characters(at, first, first, next);
      std::vector<std::u32string> tails;
      for (const std::u32string& name : rest)
        if (!name.empty() && name[0] == first) tails.push_back(name.substr(1));
      self(self, next, tails);
    }
  };
  std::vector<std::u32string> wide;
  for (const std::string& name : names) {
    const std::vector<char32_t> points = utf8_to_codepoints(name);
    wide.emplace_back(points.begin(), points.end());
  }
  const Grammar::State inside = g.add_state();
  g.add_bytes(all.start, '"', '"', inside);
  grow(grow, inside, wide);
  plain(other, {}, other);
  g.add_bytes(other, '"', '"', all.end);
  return all;
}

Grammar::Part JsonGrammar::digits(int64_t least, int64_t most) {
  Grammar& g = grammar;
  Part all{g.add_state(), g.add_state()};
  Grammar::State at = all.start;
  for (int64_t i = 0; i <= most; ++i) {
    if (i >= least) g.add_nothing(at, all.end);
    if (i == most) break;
    const Grammar::State next = g.add_state();
    g.add_bytes(at, '0', '9', next);
    at = next;
  }
  return all;
}

Grammar::Part JsonGrammar::integer() {
  Grammar& g = grammar;
  const Part first{g.add_state(), g.add_state()};
  g.add_bytes(first.start, '1', '9', first.end);
  const Part positive = g.in_order({first, digits(0, kIntegerDigits - 1)});
  return g.in_order({g.optional(g.bytes("-")), g.alternatives({g.bytes("0"), positive})});
}

Grammar::Part JsonGrammar::number() {
  Grammar& g = grammar;
  const Part fraction = g.in_order({g.bytes("."), digits(1, kFractionDigits)});
  const Part sign = g.optional(g.alternatives({g.bytes("+"), g.bytes("-")}));
  const Part exponent =
      g.in_order({g.alternatives({g.bytes("e"), g.bytes("E")}), sign, digits(1, 2)});
  return g.in_order({integer(), g.optional(fraction), g.optional(exponent)});
}

Grammar::Part JsonGrammar::boolean() {
  return grammar.alternatives({grammar.bytes("true"), grammar.bytes("false")});
}

}  // namespace llama2zh
