#pragma once

#include <string>

#include "engine/json_grammar.h"

namespace llama2zh {

// The content of a JSON string that matches a regular expression anywhere, as JSON Schema's "pattern"
// means it; "^" and "$" only at the ends. Known are characters, ".", classes, \d \w \s \D \W \S,
// escapes, groups, "|" and ? * + {m,n}; `where` names the schema's place in kUsage errors about the
// rest.
Grammar::Part pattern_content(JsonGrammar& grammar, const std::string& pattern,
                              const std::string& where);

}  // namespace llama2zh
