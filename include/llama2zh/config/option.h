#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// One option, one line. A config struct lists its options beside its members:
//
//   struct LoraConfig {
//     int64_t rank = 8;  // default: here and only here
//     static auto options() {  // key, member, doc, range: here and only here
//       return std::tuple(option("rank", &LoraConfig::rank, "Rank of the adapter matrices A and
//       B.", at_least(1)));
//     }
//   };
//
// Member types: bool, int64_t, double, std::string, std::vector<std::string>, std::vector<int64_t>,
// std::optional of a scalar (JSON null = none), another config struct (a section: its keys become
// "lora.rank"), or a std::vector of one (a list of sections [{...}, {...}], one option as a whole; its
// elements' keys are "mixture[0].path" in errors). Everything else (JSON file, --lora.rank 16, --help, docs/options.md,
// completion, "did you mean") visits that tuple.

// A range: `text` is shown in help, docs and errors ("at least 1"); `holds` is asked with the value
// as JSON: of a list each element must lie in the range (not_empty asks the list itself). null of an
// optional is always in range.
struct Range {
  std::string text;
  std::function<bool(const json&)> holds;
  std::vector<std::string> choices;  // of one_of, for completion and "did you mean"
};
Range at_least(double low);
Range greater_than(double low);
Range between(double low, double high);       // both ends belong to it
Range in_half_open(double low, double high);  // low <= x < high
Range one_of(std::vector<std::string> choices);
Range some_of(std::vector<std::string> choices);  // of a list: each a choice, none twice
// A text (of a list each) that `holds`; `text` says which: "auto, cpu, cuda or cuda:N".
Range matching(std::string text, std::function<bool(const std::string&)> holds);
Range not_empty();

template <typename Struct, typename Value>
struct Option {
  const char* key;
  Value Struct::*member;
  const char* doc;
  std::optional<Range> range;
};

template <typename Struct, typename Value>
Option<Struct, Value> option(const char* key, Value Struct::*member, const char* doc,
                             std::optional<Range> range = {}) {
  return {key, member, doc, std::move(range)};
}

// One leaf option bound to one object; the object must outlive it.
struct OptionEntry {
  std::string key;   // "lora.rank"
  std::string type;  // "integer", "number", "boolean", "text", "list of texts" (integers, sections)
  std::string doc;
  std::optional<Range> range;
  bool is_list = false;
  bool is_boolean = false;
  bool is_optional = false;  // takes null
  std::function<json()> get;
  // Type and range are checked; a bad value is a kUsage error naming `where`, the key, the value
  // and what was expected.
  std::function<void(const json& value, std::string_view where)> set;
};
using OptionTable = std::vector<OptionEntry>;

// Throws the kUsage error of a bad value: `where: KEY is VALUE, expected EXPECTED`.
[[noreturn]] void fail_value(std::string_view where, std::string_view key, const json& value,
                             std::string_view expected, std::string_view remedy = {});
// Throws as set() does if `value` is outside the entry's range.
void check_range(const OptionEntry& entry, const json& value, std::string_view where);

// The options of `object`, sections flattened, in the order they are declared. (Template:
// implementation at the end.)
template <typename Struct>
OptionTable bind_options(Struct& object, const std::string& prefix = "");

}  // namespace llama2zh

#include "llama2zh/config/option_binding.h"  // the template's body
