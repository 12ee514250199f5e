#include "llama2zh/engine/constraint.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/engine/json_schema.h"

namespace llama2zh {
namespace {

Grammar choice_grammar(const std::string& list) {
  const auto choices = parse_json(list, "choices").get<std::vector<std::string>>();
  if (choices.empty()) fail_usage("choices", "there is none to choose from");
  Grammar grammar;
  std::vector<Grammar::Part> parts;
  for (const std::string& choice : choices) {
    if (choice.empty()) fail_usage("choices", "an empty text would be no answer");
    parts.push_back(grammar.bytes(choice));
  }
  grammar.set_root(grammar.alternatives(parts));
  return grammar;
}

}  // namespace

Constraint json_schema_constraint(std::string schema) {
  return {ConstraintKind::kJsonSchema, std::move(schema)};
}

Constraint choice_constraint(const std::vector<std::string>& choices) {
  return {ConstraintKind::kChoice, json(choices).dump()};
}

Grammar constraint_grammar(const Constraint& constraint) {
  switch (constraint.kind) {
    case ConstraintKind::kJsonSchema:
      return json_schema_grammar(constraint.text);
    case ConstraintKind::kPattern:
      return pattern_grammar(constraint.text);
    case ConstraintKind::kChoice:
      return choice_grammar(constraint.text);
    case ConstraintKind::kGrammar:
      return gbnf_grammar(constraint.text);
    case ConstraintKind::kNone:
      break;
  }
  fail_usage("constraint", "there is none");
}

}  // namespace llama2zh
