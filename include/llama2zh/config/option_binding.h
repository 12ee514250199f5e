#pragma once

// The body of bind_options(): included by option.h and by nothing else.

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace llama2zh {
namespace option_detail {

// The member types that options have: their name in help, and how JSON becomes one. from_json gives
// none if the JSON value is of another type.
template <typename Value>
struct ValueType {
  static_assert(sizeof(Value) == 0, "an option's member must be of a type listed in option.h");
};

std::optional<bool> boolean_from_json(const json& value);
std::optional<int64_t> integer_from_json(const json& value);  // 8.0 counts as 8
std::optional<double> number_from_json(const json& value);
std::optional<std::string> text_from_json(const json& value);

template <>
struct ValueType<bool> {
  static constexpr const char* kName = "boolean";
  static constexpr const char* kExpected = "true or false";
  static std::optional<bool> from_json(const json& value) { return boolean_from_json(value); }
};
template <>
struct ValueType<int64_t> {
  static constexpr const char* kName = "integer";
  static constexpr const char* kExpected = "an integer";
  static std::optional<int64_t> from_json(const json& value) { return integer_from_json(value); }
};
template <>
struct ValueType<double> {
  static constexpr const char* kName = "number";
  static constexpr const char* kExpected = "a number";
  static std::optional<double> from_json(const json& value) { return number_from_json(value); }
};
template <>
struct ValueType<std::string> {
  static constexpr const char* kName = "text";
  static constexpr const char* kExpected = "a text";
  static std::optional<std::string> from_json(const json& value) { return text_from_json(value); }
};

template <typename Element>
std::optional<std::vector<Element>> list_from_json(const json& value) {
  if (!value.is_array()) return std::nullopt;
  std::vector<Element> list;
  for (const json& item : value) {
    std::optional<Element> element = ValueType<Element>::from_json(item);
    if (!element) return std::nullopt;
    list.push_back(*std::move(element));
  }
  return list;
}
template <>
struct ValueType<std::vector<std::string>> {
  static constexpr const char* kName = "list of texts";
  static constexpr const char* kExpected = "a list of texts";
  static auto from_json(const json& value) { return list_from_json<std::string>(value); }
};
template <>
struct ValueType<std::vector<int64_t>> {
  static constexpr const char* kName = "list of integers";
  static constexpr const char* kExpected = "a list of integers";
  static auto from_json(const json& value) { return list_from_json<int64_t>(value); }
};

template <typename Value>
struct Unwrapped {
  using Type = Value;
  static constexpr bool kOptional = false;
};
template <typename Value>
struct Unwrapped<std::optional<Value>> {
  using Type = Value;
  static constexpr bool kOptional = true;
};

template <typename Value>
concept Section = requires {
  Value::options();
};

template <typename Value>
struct ListElement {
  static constexpr bool kOfSections = false;
};
template <Section Value>
struct ListElement<std::vector<Value>> {
  static constexpr bool kOfSections = true;
  using Type = Value;
};

// Applies a JSON object to a section's options; kUsage names `key` + the option's name.
void set_section(const OptionTable& options, const std::string& key, const json& value,
                 std::string_view where);
json section_to_json(const OptionTable& options);

// A list of sections, [{...}, {...}]: one option whose value is the whole list.
template <typename Value>
OptionEntry bind_section_list(std::vector<Value>& member, const std::string& key, const char* doc) {
  OptionEntry entry;
  entry.key = key;
  entry.type = "list of sections";
  entry.doc = doc;
  entry.is_list = true;
  entry.get = [&member]() -> json {
    json list = json::array();
    for (Value& item : member) list.push_back(section_to_json(bind_options(item)));
    return list;
  };
  entry.set = [&member, key](const json& value, std::string_view where) {
    if (!value.is_array()) fail_value(where, key, value, "a list of sections [{ ... }, ...]");
    std::vector<Value> items(value.size());
    for (size_t i = 0; i < items.size(); ++i) {
      const std::string name = key + "[" + std::to_string(i) + "]";
      set_section(bind_options(items[i], name + "."), name, value[i], where);
    }
    member = std::move(items);
  };
  return entry;
}

template <typename Value>
OptionEntry bind_leaf(Value& member, std::string key, const char* doc, std::optional<Range> range) {
  using Plain = typename Unwrapped<Value>::Type;
  constexpr bool kOptional = Unwrapped<Value>::kOptional;
  OptionEntry entry;
  entry.key = std::move(key);
  entry.type = ValueType<Plain>::kName;
  entry.doc = doc;
  entry.range = std::move(range);
  entry.is_list = entry.type.starts_with("list");
  entry.is_boolean = std::is_same_v<Plain, bool>;
  entry.is_optional = kOptional;
  entry.get = [&member]() -> json {
    if constexpr (kOptional) {
      return member ? json(*member) : json(nullptr);
    } else {
      return json(member);
    }
  };
  // The closure keeps the entry's own key and range: the entry may be copied or moved away.
  auto own = std::make_shared<const OptionEntry>(entry);
  entry.set = [&member, own](const json& value, std::string_view where) {
    if constexpr (kOptional) {
      if (value.is_null()) {
        member.reset();
        return;
      }
    }
    std::optional<Plain> converted = ValueType<Plain>::from_json(value);
    if (!converted) {
      fail_value(where, own->key, value,
                 std::string(ValueType<Plain>::kExpected) + (kOptional ? " or null" : ""));
    }
    check_range(*own, json(*converted), where);
    member = *std::move(converted);
  };
  return entry;
}

// Owner is Struct or a base of it.
template <typename Struct, typename Owner, typename Value>
void bind_one(OptionTable& table, Struct& object, const std::string& prefix,
              const Option<Owner, Value>& option) {
  const std::string key = prefix + option.key;
  if constexpr (Section<Value>) {
    for (OptionEntry& entry : bind_options(object.*option.member, key + ".")) {
      table.push_back(std::move(entry));
    }
  } else if constexpr (ListElement<Value>::kOfSections) {
    table.push_back(bind_section_list(object.*option.member, key, option.doc));
  } else {
    table.push_back(bind_leaf(object.*option.member, key, option.doc, option.range));
  }
}

}  // namespace option_detail

template <typename Struct>
OptionTable bind_options(Struct& object, const std::string& prefix) {
  OptionTable table;
  std::apply(
      [&](const auto&... option) { (option_detail::bind_one(table, object, prefix, option), ...); },
      Struct::options());
  return table;
}

}  // namespace llama2zh
