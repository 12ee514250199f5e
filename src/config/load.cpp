// Values from a config file and from command-line text into the bound options.
#include "llama2zh/config/load.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 24;

// What a user has written is wrong usage, whatever the parser of strangers' files calls it.
template <typename Parse>
auto as_usage(const Parse& parse) {
  try {
    return parse();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kFormat) throw;
    fail_usage("", error.what());
  }
}

std::string canonical_key(std::string_view key) {
  std::string canonical(key);
  std::replace(canonical.begin(), canonical.end(), '-', '_');
  return canonical;
}

// Applies one file, section by section.
class ConfigFile {
 public:
  ConfigFile(const OptionTable& options, const std::filesystem::path& path, Provenance& provenance)
      : options_(options), path_(path.string()), provenance_(provenance) {}

  void load() {
    const std::string text = read_file(path_, kMaxConfigBytes);
    const ordered_json root = as_usage(
        [&] { return parse_ordered_json(text, path_, {.allow_comments = true}, &lines_); });
    if (!root.is_object()) fail_usage(path_, "expected one JSON object { ... }");
    apply(root, "");
  }

 private:
  std::string place(const std::string& key) const {
    const auto line = lines_.find(key);
    return line == lines_.end() ? path_ : cat(path_, ":", line->second);
  }

  bool is_section(const std::string& key) const {
    const std::string prefix = canonical_key(key) + ".";
    return std::any_of(options_.begin(), options_.end(),
                       [&](const OptionEntry& entry) { return entry.key.starts_with(prefix); });
  }

  void apply(const ordered_json& object, const std::string& prefix) {
    for (const auto& [name, value] : object.items()) {
      const std::string key = prefix + name;
      const OptionEntry* entry = find_option(options_, key);
      if (entry != nullptr) {
        set(*entry, key, value);
      } else if (!is_section(key)) {
        fail_usage(place(key), cat("unknown key \"", key, "\""), did_you_mean(options_, key));
      } else if (!value.is_object()) {
        fail_value(place(key), key, json(value), "a section { ... } of keys");
      } else {
        apply(value, key + ".");
      }
    }
  }

  void set(const OptionEntry& entry, const std::string& key, const ordered_json& value) {
    // "lora": {"rank": 8} and "lora.rank": 16 are different keys to the JSON parser.
    if (!seen_.insert(entry.key).second) {
      fail_usage(place(key), cat("the key \"", entry.key, "\" is there twice"));
    }
    entry.set(json(value), place(key));
    provenance_[entry.key] = place(key);
  }

  const OptionTable& options_;
  std::string path_;
  Provenance& provenance_;
  KeyLines lines_;
  std::set<std::string> seen_;
};

// The JSON value of a number; the text itself as a JSON text if it is none, for the error of set().
json number_from_text(const std::string& text) {
  const char* end = text.data() + text.size();
  int64_t integer = 0;
  if (const auto result = std::from_chars(text.data(), end, integer);
      result.ec == std::errc() && result.ptr == end) {
    return integer;
  }
  double number = 0;
  if (const auto result = std::from_chars(text.data(), end, number);
      result.ec == std::errc() && result.ptr == end && std::isfinite(number)) {
    return number;
  }
  return text;
}

json scalar_from_text(const OptionEntry& entry, const std::string& text) {
  // "null" is a text like any other; a file can say null itself.
  if (entry.is_optional && entry.type != "text" && text == "null") return nullptr;
  if (entry.is_boolean && (text == "true" || text == "false")) return text == "true";
  if (entry.type == "integer" || entry.type == "number") return number_from_text(text);
  return text;
}

void append_list_elements(const OptionEntry& entry, const std::string& text, std::string_view where,
                          json& list) {
  if (text.empty()) return;  // --stop= is the empty list
  if (text.front() == '[') {
    const json parsed = as_usage([&] { return parse_json(text, cat(where, ": ", entry.key)); });
    list.insert(list.end(), parsed.begin(), parsed.end());
    return;
  }
  if (text.front() == '{') {
    list.push_back(as_usage([&] { return parse_json(text, cat(where, ": ", entry.key)); }));
    return;
  }
  for (const std::string& part : split(text, ',')) {
    if (part.empty()) {
      fail_value(where, entry.key, text, "no empty element",
                 "write texts that hold commas as a JSON list: '[\"a,b\"]'");
    }
    list.push_back(entry.type == "list of integers" ? number_from_text(part) : json(part));
  }
}

std::string section_part(std::string_view key) {
  const size_t dot = key.rfind('.');
  return std::string(key.substr(0, dot == std::string_view::npos ? 0 : dot));
}

// "lr" of "learning_rate".
std::string initials_of(std::string_view name) {
  std::string initials;
  for (const std::string& word : split(name, '_')) initials += word.substr(0, 1);
  return initials;
}

// Whether `words` ("batch_size") are some of the words of `name` ("micro_batch_size"), in one piece.
bool has_words(std::string_view name, std::string_view words) {
  return cat("_", name, "_").find(cat("_", words, "_")) != std::string::npos;
}

// The keys that `name` shortens: by its initials, or else by some of its words; those of the section
// that was named, if there are any. None if they are too many to be a hint.
std::vector<std::string> unshortened(const OptionTable& options, const std::string& name) {
  constexpr size_t kMost = 3;
  const std::string section = section_part(name), last = name.substr(name.rfind('.') + 1);
  if (last.empty()) return {};
  for (const bool by_initials : {true, false}) {
    std::vector<std::string> all, in_section;
    for (const OptionEntry& entry : options) {
      const std::string key = entry.key.substr(entry.key.rfind('.') + 1);
      if (by_initials ? initials_of(key) != last : !has_words(key, last)) continue;
      all.push_back(entry.key);
      if (section_part(entry.key) == section) in_section.push_back(entry.key);
    }
    const bool told = !section.empty() && !in_section.empty();
    const std::vector<std::string>& found = told ? in_section : all;
    if (!found.empty() && found.size() <= kMost) return found;
  }
  return {};
}

bool has_section(const OptionTable& options, const std::string& section) {
  return !section.empty() && std::any_of(options.begin(), options.end(), [&](const auto& entry) {
    return entry.key.starts_with(section + ".");
  });
}

// The key or section whose name is nearest to that of `name`, of those in its section; "" if none is.
std::string nearest_in_section(const OptionTable& options, const std::string& name) {
  const std::string section = section_part(name);
  if (!has_section(options, section)) return "";
  std::vector<std::string> names;
  for (const OptionEntry& entry : options) {
    if (!entry.key.starts_with(section + ".")) continue;
    const std::string rest = entry.key.substr(section.size() + 1);
    names.push_back(rest.substr(0, rest.find('.')));
  }
  const std::string found = nearest(name.substr(section.size() + 1), names);
  return found.empty() ? "" : section + "." + found;
}

}  // namespace

void load_config_file(const OptionTable& options, const std::filesystem::path& path,
                      Provenance& provenance) {
  ConfigFile(options, path, provenance).load();
}

void set_from_text(const OptionTable& options, const std::string& key,
                   const std::vector<std::string>& values, std::string_view where,
                   Provenance& provenance) {
  const OptionEntry* entry = find_option(options, key);
  if (entry == nullptr) {
    fail_usage(where, cat("unknown key \"", key, "\""), did_you_mean(options, key));
  }
  for (const std::string& value : values) {
    if (!is_utf8(value)) fail_usage(where, cat("the value of ", entry->key, " is not valid UTF-8"));
  }
  if (entry->is_list) {
    json list = json::array();
    for (const std::string& value : values) append_list_elements(*entry, value, where, list);
    entry->set(list, where);
  } else if (values.size() == 1) {
    entry->set(scalar_from_text(*entry, values[0]), where);
  } else {
    fail_usage(where, cat(entry->key, " takes one value, got ", values.size()));
  }
  provenance[entry->key] = where;
}

const OptionEntry* find_option(const OptionTable& options, std::string_view key) {
  const std::string canonical = canonical_key(key);
  const auto found = std::find_if(options.begin(), options.end(), [&](const OptionEntry& entry) {
    return canonical_key(entry.key) == canonical;
  });
  return found == options.end() ? nullptr : &*found;
}

const OptionEntry* find_named_option(const OptionTable& options, std::string_view name) {
  const OptionEntry* found = find_option(options, name);
  const std::string ending = "." + canonical_key(name);
  if (found != nullptr || name.empty() || ending.find('.', 1) != std::string::npos) return found;
  for (const OptionEntry& entry : options) {
    if (!canonical_key(entry.key).ends_with(ending)) continue;
    if (found != nullptr) return nullptr;
    found = &entry;
  }
  return found;
}

std::string did_you_mean(const OptionTable& options, std::string_view key) {
  const std::string canonical = canonical_key(key);
  const std::string last = canonical.substr(canonical.rfind('.') + 1);
  std::vector<std::string> keys;
  std::vector<std::string> same_name;  // "rank" for "lora.rank"
  for (const OptionEntry& entry : options) {
    keys.push_back(entry.key);
    if (entry.key.ends_with("." + last) || entry.key == last) same_name.push_back(entry.key);
    // A misspelt section is as near as its name is.
    for (size_t dot = entry.key.find('.'); dot != std::string::npos;
         dot = entry.key.find('.', dot + 1)) {
      const std::string section = entry.key.substr(0, dot);
      const bool known = canonical.starts_with(section + ".");  // that much was right
      if (!known && std::find(keys.begin(), keys.end(), section) == keys.end())
        keys.push_back(section);
    }
  }
  std::vector<std::string> near = same_name;
  if (near.size() != 1) near = unshortened(options, canonical);
  if (near.empty()) near = {nearest_in_section(options, canonical)};
  if (near.front().empty() && !has_section(options, section_part(canonical)))
    near = {nearest(canonical, keys)};
  return near.front().empty() ? "" : cat("did you mean \"", join(near, "\" or \""), "\"?");
}

void check_values(const OptionTable& options, const Provenance& provenance) {
  for (const OptionEntry& entry : options) {
    const auto source = provenance.find(entry.key);
    check_range(entry, entry.get(), source == provenance.end() ? "default" : source->second);
  }
}

ordered_json to_json(const OptionTable& options) {
  ordered_json root = ordered_json::object();
  for (const OptionEntry& entry : options) {
    ordered_json* at = &root;
    for (const std::string& part : split(entry.key, '.')) at = &(*at)[part];
    *at = ordered_json(entry.get());
  }
  return root;
}

}  // namespace llama2zh
