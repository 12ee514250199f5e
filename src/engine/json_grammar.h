#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/character_ranges.h"
#include "llama2zh/engine/grammar.h"

namespace llama2zh {

// The parts of JSON, as they are written: no surrogates, no broken UTF-8, numbers that a double can
// hold. Space is optional and little: one " " behind ":" and ",", or a new line with up to 20 spaces
// where json.dumps(indent=...) puts one.
class JsonGrammar {
 public:
  JsonGrammar();
  Grammar grammar;
  using Part = Grammar::Part;

  // One character inside a string, raw or escaped; most (code point) \uXXXX only below 0x10000.
  Part character();
  Part character_of(const CharacterRanges& ranges);
  Part text(int64_t least, int64_t most);  // a string of so many characters; most -1: no limit
  Part quoted(const Part& content);
  Part text_other_than(const std::vector<std::string>& names);  // without escapes
  Part integer();
  Part number();
  Part boolean();
  Part any_value() { return call(any_); }
  Part any_object();
  Part call(const Part& rule);
  Part space();  // behind ":" and ","
  Part line();   // where a new line may be
  // `count` of item, least to most (-1: no limit), with `between` between them.
  Part repeated(const Part& item_rule, const Part& between_rule, int64_t least, int64_t most);
  Part list(const Part& item_rule, int64_t least, int64_t most);  // [...]
  Part rule(const Part& body);                                    // to be called

 private:
  Part digits(int64_t least, int64_t most);

  Part any_, space_rule_, line_rule_, comma_rule_, character_rule_;
};

}  // namespace llama2zh
