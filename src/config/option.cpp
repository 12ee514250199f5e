// Ranges, JSON to C++ values, and the text of the errors about them.
#include "llama2zh/config/option.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/load.h"

namespace llama2zh {
namespace {

// 1048576 and 1e-08, not 1.04858e+06.
std::string bound_text(double bound) {
  if (bound == std::floor(bound) && std::abs(bound) < 1e15) {
    return std::to_string(static_cast<int64_t>(bound));
  }
  return json(bound).dump();
}

template <typename Predicate>
std::function<bool(const json&)> each_element(Predicate predicate) {
  return [predicate](const json& value) {
    if (!value.is_array()) return predicate(value);
    return std::all_of(value.begin(), value.end(), predicate);
  };
}

template <typename Predicate>
Range numeric_range(std::string text, Predicate predicate) {
  return {std::move(text),
          each_element([predicate](const json& value) {
            return value.is_number() && predicate(value.get<double>());
          }),
          {}};
}

std::string shown_value(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  constexpr size_t kLongest = 80;
  if (text.size() <= kLongest) return text;
  return text.substr(0, utf8_complete_prefix(std::string_view(text).substr(0, kLongest))) + "...";
}

// The choice nearest to the first element that is none.
std::string nearest_choice(const Range& range, const json& value) {
  const json list = value.is_array() ? value : json::array({value});
  for (const json& item : list) {
    if (item.is_string() && !range.holds(item)) {
      return nearest(item.get_ref<const std::string&>(), range.choices);
    }
  }
  return {};
}

}  // namespace

Range at_least(double low) {
  return numeric_range("at least " + bound_text(low), [low](double x) { return x >= low; });
}

Range greater_than(double low) {
  return numeric_range("greater than " + bound_text(low), [low](double x) { return x > low; });
}

Range between(double low, double high) {
  return numeric_range(bound_text(low) + " to " + bound_text(high),
                       [low, high](double x) { return x >= low && x <= high; });
}

Range in_half_open(double low, double high) {
  return numeric_range("at least " + bound_text(low) + " and less than " + bound_text(high),
                       [low, high](double x) { return x >= low && x < high; });
}

Range one_of(std::vector<std::string> choices) {
  const auto known = [choices](const json& value) {
    return value.is_string() && std::find(choices.begin(), choices.end(),
                                          value.get_ref<const std::string&>()) != choices.end();
  };
  std::string text = "one of " + join(choices, ", ");
  return {std::move(text), each_element(known), std::move(choices)};
}

Range some_of(std::vector<std::string> choices) {
  std::string text = "some of " + join(choices, ", ") + ", each once";
  Range each = one_of(std::move(choices));
  const auto distinct = [holds = each.holds](const json& value) {
    if (!holds(value)) return false;
    const json list = value.is_array() ? value : json::array({value});
    return std::set<json>(list.begin(), list.end()).size() == list.size();
  };
  return {std::move(text), distinct, std::move(each.choices)};
}

Range matching(std::string text, std::function<bool(const std::string&)> holds) {
  return {std::move(text),
          each_element([holds = std::move(holds)](const json& value) {
            return value.is_string() && holds(value.get_ref<const std::string&>());
          }),
          {}};
}

Range not_empty() {
  return {"not empty",
          [](const json& value) {
            if (value.is_string()) return !value.get_ref<const std::string&>().empty();
            return !value.empty();
          },
          {}};
}

void fail_value(std::string_view where, std::string_view key, const json& value,
                std::string_view expected, std::string_view remedy) {
  fail_usage(where, cat(key, " is ", shown_value(value), ", expected ", expected), remedy);
}

void check_range(const OptionEntry& entry, const json& value, std::string_view where) {
  if (!entry.range || value.is_null() || entry.range->holds(value)) return;
  const std::string near = nearest_choice(*entry.range, value);
  const bool about_emptiness = entry.range->text == "not empty";
  fail_value(where, entry.key, value, about_emptiness ? "it not to be empty" : entry.range->text,
             near.empty() ? "" : cat("did you mean \"", near, "\"?"));
}

namespace option_detail {

void set_section(const OptionTable& options, const std::string& key, const json& value,
                 std::string_view where) {
  if (!value.is_object()) fail_value(where, key, value, "a section { ... } of keys");
  for (const auto& [name, item] : value.items()) {
    const OptionEntry* entry = find_option(options, key + "." + name);
    if (entry == nullptr) {
      fail_usage(where, cat("unknown key \"", key, ".", name, "\""),
                 did_you_mean(options, key + "." + name));
    }
    entry->set(item, where);
  }
  for (const OptionEntry& entry : options) check_range(entry, entry.get(), where);
}

json section_to_json(const OptionTable& options) {
  json object = json::object();
  for (const OptionEntry& entry : options) {
    const json value = entry.get();
    if (!value.is_null()) object[entry.key] = value;
  }
  return object;
}

std::optional<bool> boolean_from_json(const json& value) {
  if (!value.is_boolean()) return std::nullopt;
  return value.get<bool>();
}

std::optional<int64_t> integer_from_json(const json& value) {
  if (value.is_number_unsigned()) {
    const auto n = value.get<uint64_t>();
    if (n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(n);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double x = value.get<double>();
  // Beyond 2^53 a double no longer says which integer was meant.
  if (!(std::abs(x) <= 0x1p53) || x != std::floor(x)) return std::nullopt;
  return static_cast<int64_t>(x);
}

std::optional<double> number_from_json(const json& value) {
  if (!value.is_number()) return std::nullopt;
  const auto x = value.get<double>();
  if (!std::isfinite(x)) return std::nullopt;
  return x;
}

std::optional<std::string> text_from_json(const json& value) {
  if (!value.is_string()) return std::nullopt;
  return value.get<std::string>();
}

}  // namespace option_detail
}  // namespace llama2zh
