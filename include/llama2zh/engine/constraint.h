#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/engine/grammar.h"

namespace llama2zh {

// What an answer's text has to be, from its first character to its last.
enum class ConstraintKind {
  kNone,
  kJsonSchema,  // valid under a JSON Schema: json_schema_grammar()
  kPattern,     // matched by a regular expression as a whole: pattern_grammar()
  kChoice,      // one of several texts: `text` is a JSON list of them
  kGrammar,     // of a grammar in llama.cpp's notation: gbnf_grammar()
};
struct Constraint {
  ConstraintKind kind = ConstraintKind::kNone;
  std::string text;
  explicit operator bool() const { return kind != ConstraintKind::kNone; }
  bool operator<(const Constraint& other) const {
    return std::tie(kind, text) < std::tie(other.kind, other.text);
  }
};

Constraint json_schema_constraint(std::string schema);
Constraint choice_constraint(const std::vector<std::string>& choices);

// kUsage or kFormat for a text that says nothing that can be followed.
Grammar constraint_grammar(const Constraint& constraint);

// The texts that a regular expression matches from their first character to their last. Known are
// characters, ".", classes, \d \w \s \D \W \S, escapes, groups, "|" and ? * + {m,n}; "^" and "$" only
// at the ends. kUsage about the rest.
Grammar pattern_grammar(const std::string& pattern);

// GBNF, the notation of llama.cpp's grammars: rules `name ::= ...` of which `root` is the text, with
// "literals", [classes], ".", names of rules, groups, "|", ? * + {m,n} and # comments. Rules may call
// themselves. kUsage naming the line of what is wrong.
Grammar gbnf_grammar(const std::string& text);

}  // namespace llama2zh
