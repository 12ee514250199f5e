// Every schema becomes a part of one automaton; what is referred to becomes a rule that is called, so
// that it may refer to itself.
#include "llama2zh/engine/json_schema.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "engine/json_grammar.h"
#include "engine/pattern.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kMostCounted = 10000;
const std::set<std::string> kSilent = {"title",   "description", "default",  "examples",
                                       "$schema", "$id",         "$comment", "deprecated",
                                       "$defs",   "definitions", "readOnly", "writeOnly"};
const std::vector<std::string> kTypes = {"object",  "array",   "string", "number",
                                         "integer", "boolean", "null"};

class SchemaCompiler {
 public:
  explicit SchemaCompiler(const ordered_json& root) : root_(&root) {}

  Grammar compile() {
    Grammar& g = json_.grammar;
    // A sentencepiece's answer begins with a space.
    g.set_root(g.in_order({json_.space(), value(*root_, "#")}));
    return std::move(json_.grammar);
  }

 private:
  using Part = Grammar::Part;
  [[noreturn]] static void refuse(const std::string& where, const std::string& what,
                                  const std::string& remedy = "") {
    fail_usage("json_schema", cat(where, ": ", what), remedy);
  }
  static void allow(const ordered_json& schema, const std::string& where,
                    const std::set<std::string>& known) {
    for (const auto& [key, unused] : schema.items()) {
      if (!kSilent.contains(key) && !known.contains(key))
        refuse(where, cat("\"", key, "\" is not supported here"));
    }
  }

  Part value(const ordered_json& schema, const std::string& where) {
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) refuse(where, "nothing is valid under false");
      return json_.any_value();
    }
    if (!schema.is_object()) refuse(where, "a schema is an object, or true");
    if (schema.contains("$ref")) return reference(schema, where);
    for (const char* key : {"anyOf", "oneOf"})
      if (schema.contains(key)) return branches(schema, key, where);
    if (schema.contains("const")) return literals(schema, "const", where);
    if (schema.contains("enum")) return literals(schema, "enum", where);
    if (!schema.contains("type")) return untyped(schema, where);
    std::vector<Part> kinds;
    std::set<std::string> known = {"type"};
    for (const std::string& type : types_of(schema, where))
      kinds.push_back(typed(schema, type, where, known));
    allow(schema, where, known);
    return json_.grammar.alternatives(kinds);
  }

  static std::vector<std::string> types_of(const ordered_json& schema, const std::string& where) {
    std::vector<std::string> types;
    const ordered_json& type = schema["type"];
    for (const ordered_json& one : type.is_array() ? type : ordered_json::array({type})) {
      if (!one.is_string() ||
          std::find(kTypes.begin(), kTypes.end(), one.get<std::string>()) == kTypes.end())
        refuse(where, cat("\"type\": expected some of ", join(kTypes, ", ")));
      types.push_back(one.get<std::string>());
    }
    if (types.empty()) refuse(where, "\"type\" is an empty list");
    return types;
  }

  // "properties" says object and so on, as writers of schemas mean it.
  Part untyped(const ordered_json& schema, const std::string& where) {
    std::set<std::string> known;
    const auto has = [&](const char* key) { return schema.contains(key); };
    if (has("properties") || has("required") || has("additionalProperties")) {
      const Part part = typed(schema, "object", where, known);
      allow(schema, where, known);
      return part;
    }
    allow(schema, where, {});
    return json_.any_value();
  }

  Part typed(const ordered_json& schema, const std::string& type, const std::string& where,
             std::set<std::string>& known) {
    if (type == "object") {
      known.insert({"properties", "required", "additionalProperties"});
      return object(schema, where);
    }
    if (type == "array") {
      known.insert({"items", "minItems", "maxItems"});
      return array(schema, where);
    }
    if (type == "string") {
      known.insert({"minLength", "maxLength", "pattern"});
      return string(schema, where);
    }
    if (type == "integer") return json_.integer();
    if (type == "number") return json_.number();
    return type == "boolean" ? json_.boolean() : json_.grammar.bytes("null");
  }

  static int64_t count_of(const ordered_json& schema, const char* key, int64_t otherwise,
                          const std::string& where) {
    if (!schema.contains(key)) return otherwise;
    const ordered_json& value = schema[key];
    if (!value.is_number_integer() || value.get<int64_t>() < 0 ||
        value.get<int64_t>() > kMostCounted)
      refuse(where, cat("\"", key, "\": expected a whole number up to ", kMostCounted));
    return value.get<int64_t>();
  }
  static void check_limits(int64_t least, int64_t most, const std::string& where) {
    if (most >= 0 && least > most) refuse(where, "its least is more than its most");
  }

  Part string(const ordered_json& schema, const std::string& where) {
    const int64_t least = count_of(schema, "minLength", 0, where);
    const int64_t most = count_of(schema, "maxLength", -1, where);
    check_limits(least, most, where);
    if (!schema.contains("pattern")) return json_.text(least, most);
    if (schema.contains("minLength") || schema.contains("maxLength"))
      refuse(where, "\"pattern\" does not go with \"minLength\" and \"maxLength\"",
             "say the length in the pattern, as ^[a-z]{2,8}$");
    if (!schema["pattern"].is_string()) refuse(where, "\"pattern\": expected a text");
    return json_.quoted(pattern_content(json_, schema["pattern"].get<std::string>(), where));
  }

  Part array(const ordered_json& schema, const std::string& where) {
    const int64_t least = count_of(schema, "minItems", 0, where);
    const int64_t most = count_of(schema, "maxItems", -1, where);
    check_limits(least, most, where);
    const Part item =
        schema.contains("items") ? value(schema["items"], where + "/items") : json_.any_value();
    return json_.list(json_.rule(item), least, most);
  }

  Part literals(const ordered_json& schema, const char* key, const std::string& where) {
    allow(schema, where, {key, "type"});
    const ordered_json list =
        std::string(key) == "enum" ? schema[key] : ordered_json::array({schema[key]});
    if (!list.is_array() || list.empty()) refuse(where, "\"enum\": expected a list of values");
    std::vector<Part> parts;
    for (const ordered_json& one : list) {
      if (schema.contains("type") && !has_type(one, types_of(schema, where))) continue;
      parts.push_back(json_.grammar.bytes(one.dump()));
    }
    if (parts.empty()) refuse(where, cat("no value of \"", key, "\" is of its \"type\""));
    return json_.grammar.alternatives(parts);
  }

  static bool has_type(const ordered_json& one, const std::vector<std::string>& types) {
    return std::any_of(types.begin(), types.end(), [&](const std::string& type) {
      if (type == "integer") return one.is_number_integer();
      return type == std::string(one.type_name());
    });
  }

  // Members in order; `some`: whether one was there, so that a comma comes first.
  Part object(const ordered_json& schema, const std::string& where) {
    const ordered_json none = ordered_json::object();
    const ordered_json& properties = schema.contains("properties") ? schema["properties"] : none;
    if (!properties.is_object()) refuse(where, "\"properties\": expected an object");
    const std::set<std::string> required = required_of(schema, properties, where);
    const std::optional<Part> more = additional(schema, properties, where);
    if (properties.empty() && schema_allows_anything(schema)) return json_.any_object();
    Grammar& g = json_.grammar;
    const Part all{g.add_state(), g.add_state()};
    Grammar::State first = all.start, some = g.add_state();
    std::vector<std::string> names;
    for (const auto& [name, member] : properties.items()) {
      const Part pair = json_.rule(member_of(json_.grammar.bytes(ordered_json(name).dump()),
                                             value(member, cat(where, "/properties/", name))));
      const Grammar::State next_first = g.add_state(), next_some = g.add_state();
      add_member(first, pair, next_some, /*comma=*/false);
      add_member(some, pair, next_some, /*comma=*/true);
      if (!required.contains(name)) {
        g.add_nothing(first, next_first);
        g.add_nothing(some, next_some);
      }
      first = next_first;
      some = next_some;
      names.push_back(name);
    }
    if (more) {
      const Part pair = json_.rule(member_of(json_.text_other_than(names), *more));
      add_member(first, pair, some, /*comma=*/false);
      add_member(some, pair, some, /*comma=*/true);
    }
    g.add_nothing(first, all.end);
    const Part line = json_.line();
    g.add_nothing(some, line.start);
    g.add_nothing(line.end, all.end);
    return g.in_order({g.bytes("{"), all, g.bytes("}")});
  }

  static bool schema_allows_anything(const ordered_json& schema) {
    if (!schema.contains("additionalProperties")) return true;
    const ordered_json& more = schema["additionalProperties"];
    return more.is_boolean() && more.get<bool>();
  }

  std::optional<Part> additional(const ordered_json& schema, const ordered_json& properties,
                                 const std::string& where) {
    if (!schema.contains("additionalProperties")) {
      if (properties.empty()) return json_.any_value();
      return std::nullopt;
    }
    const ordered_json& more = schema["additionalProperties"];
    if (more.is_boolean() && !more.get<bool>()) return std::nullopt;
    return value(more, where + "/additionalProperties");
  }

  static std::set<std::string> required_of(const ordered_json& schema,
                                           const ordered_json& properties,
                                           const std::string& where) {
    std::set<std::string> names;
    if (!schema.contains("required")) return names;
    if (!schema["required"].is_array()) refuse(where, "\"required\": expected a list of names");
    for (const ordered_json& name : schema["required"]) {
      if (!name.is_string() || !properties.contains(name.get<std::string>()))
        refuse(where, cat("\"required\": ", name.dump(), " is not among \"properties\""));
      names.insert(name.get<std::string>());
    }
    return names;
  }

  Part member_of(const Part& key, const Part& content) {
    Grammar& g = json_.grammar;
    return g.in_order({key, g.bytes(":"), json_.space(), content});
  }

  void add_member(Grammar::State from, const Part& pair, Grammar::State to, bool comma) {
    Grammar& g = json_.grammar;
    const Part before =
        comma ? g.in_order({g.bytes(","), g.alternatives({json_.space(), json_.line()})})
              : json_.line();
    g.add_nothing(from, before.start);
    g.add_call(before.end, pair, to);
  }

  Part branches(const ordered_json& schema, const char* key, const std::string& where) {
    allow(schema, where, {key});
    const ordered_json& list = schema[key];
    if (!list.is_array() || list.empty())
      refuse(where, cat("\"", key, "\": expected a list of schemas"));
    std::vector<Part> parts;
    for (size_t i = 0; i < list.size(); ++i) {
      for (size_t k = 0; k < i && std::string(key) == "oneOf"; ++k) {
        if (!are_disjoint(list[i], list[k])) {
          refuse(where, "branches of \"oneOf\" that one value could fit both of",
                 "give them different types or a const of their own, or write anyOf");
        }
      }
      parts.push_back(value(list[i], cat(where, "/", key, "/", i)));
    }
    return json_.grammar.alternatives(parts);
  }

  // Whether no value can be valid under both, as far as it is easily seen.
  bool are_disjoint(const ordered_json& a, const ordered_json& b) const {
    const ordered_json &x = resolved(a), &y = resolved(b);
    if (!x.is_object() || !y.is_object()) return false;
    const std::set<std::string> of_x = possible_types(x), of_y = possible_types(y);
    const bool shared = std::any_of(of_x.begin(), of_x.end(),
                                    [&](const std::string& type) { return of_y.contains(type); });
    if (!shared) return true;
    if (fixed(x) && fixed(y)) {
      const std::vector<ordered_json> values = *fixed(x), others = *fixed(y);
      return std::none_of(values.begin(), values.end(), [&](const ordered_json& one) {
        return std::find(others.begin(), others.end(), one) != others.end();
      });
    }
    if (!x.contains("properties") || !y.contains("properties")) return false;
    for (const auto& [name, member] : x["properties"].items()) {
      if (!y["properties"].contains(name) || !is_required(x, name) || !is_required(y, name))
        continue;
      if (of_x.size() == 1 && of_y.size() == 1 && are_disjoint(member, y["properties"][name]))
        return true;
    }
    return false;
  }
  static bool is_required(const ordered_json& schema, const std::string& name) {
    if (!schema.contains("required") || !schema["required"].is_array()) return false;
    const ordered_json& list = schema["required"];
    return std::find(list.begin(), list.end(), ordered_json(name)) != list.end();
  }
  static std::optional<std::vector<ordered_json>> fixed(const ordered_json& schema) {
    if (schema.contains("const")) return std::vector<ordered_json>{schema["const"]};
    if (!schema.contains("enum") || !schema["enum"].is_array()) return std::nullopt;
    return std::vector<ordered_json>(schema["enum"].begin(), schema["enum"].end());
  }
  static std::set<std::string> possible_types(const ordered_json& schema) {
    std::set<std::string> types;
    if (schema.contains("type")) {
      for (const std::string& type : types_of(schema, "#")) types.insert(type);
      if (types.erase("integer") > 0) types.insert("number");
    } else if (const auto values = fixed(schema)) {
      for (const ordered_json& one : *values) types.insert(one.type_name());
    } else {
      types = {kTypes.begin(), kTypes.end()};
    }
    return types;
  }

  const ordered_json& resolved(const ordered_json& schema) const {
    const ordered_json* at = &schema;
    for (int hops = 0; at->is_object() && at->contains("$ref") && hops < 16; ++hops)
      at = &target((*at)["$ref"], "#");
    return *at;
  }

  const ordered_json& target(const ordered_json& name, const std::string& where) const {
    const std::string path = name.is_string() ? name.get<std::string>() : "";
    if (!path.starts_with('#'))
      refuse(where, cat("\"$ref\": ", name.dump(), " is not supported"),
             "refer to a place in this schema, as #/$defs/NAME");
    try {
      return root_->at(ordered_json::json_pointer(path.substr(1)));
    } catch (const nlohmann::json::exception&) {
      refuse(where, cat("\"$ref\": there is no ", path));
    }
  }

  // A rule that leads to itself before any byte would never end.
  void check_progress(const ordered_json& schema, const std::string& where, int depth = 0) {
    if (!schema.is_object() || progresses_.contains(&schema)) return;
    if (depth > kMostDepth) refuse(where, "\"$ref\"s lead too deep");
    if (!path_.insert(&schema).second) refuse(where, "\"$ref\" leads in a circle");
    if (schema.contains("$ref")) check_progress(target(schema["$ref"], where), where, depth + 1);
    for (const char* key : {"anyOf", "oneOf"}) {
      if (!schema.contains(key) || !schema[key].is_array()) continue;
      for (const ordered_json& branch : schema[key]) check_progress(branch, where, depth + 1);
    }
    path_.erase(&schema);
    progresses_.insert(&schema);
  }

  Part reference(const ordered_json& schema, const std::string& where) {
    allow(schema, where, {"$ref"});
    const ordered_json& found = target(schema["$ref"], where);
    check_progress(schema, where);
    const auto known = rules_.find(&found);
    if (known != rules_.end()) return json_.call(known->second);
    Grammar& g = json_.grammar;
    const Part rule{g.add_state(), g.add_state()};
    g.mark_rule_end(rule.end);
    rules_.emplace(&found, rule);  // before its body, which may refer to it
    if (++depth_ > kMostDepth) refuse(where, "\"$ref\"s lead too deep");
    const Part body = value(found, schema["$ref"].get<std::string>());
    --depth_;
    g.add_nothing(rule.start, body.start);
    g.add_nothing(body.end, rule.end);
    return json_.call(rule);
  }

  const ordered_json* root_;
  JsonGrammar json_;
  std::map<const ordered_json*, Part> rules_;
  // Schemas may come from strangers: what follows them must end, and soon.
  static constexpr int kMostDepth = 200;
  int depth_ = 0;                             // of references inside references
  std::set<const ordered_json*> path_;        // of check_progress()
  std::set<const ordered_json*> progresses_;  // what it is through with
};

}  // namespace

Grammar json_schema_grammar(const std::string& schema) {
  return SchemaCompiler(parse_ordered_json(schema, "json_schema")).compile();
}

}  // namespace llama2zh
