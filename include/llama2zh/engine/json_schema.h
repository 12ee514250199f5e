#pragma once

#include <string>

#include "llama2zh/engine/grammar.h"

namespace llama2zh {

// The JSON texts that are valid under a JSON Schema (2020-12, as far as it goes here):
//   type (one or a list), enum, const, anyOf, oneOf (where the branches can be told apart), $ref to
//   "#" and "#/...", $defs, definitions;
//   objects: properties, required, additionalProperties; members come in the order of `properties`.
//     Without additionalProperties none are added, but to an object without properties;
//   arrays: items, minItems, maxItems;
//   strings: minLength, maxLength, or pattern (see pattern_content());
//   integers of up to 18 digits, numbers with fraction and exponent, booleans, null.
// Titles, descriptions and such are passed over. Any other keyword is a kUsage error that names its
// place: it would be promised and not kept. kFormat for a text that is no JSON.
Grammar json_schema_grammar(const std::string& schema);

}  // namespace llama2zh
