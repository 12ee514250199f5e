// The option table as text: `config show`, docs/options.md.
#include <algorithm>

#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/load.h"

namespace llama2zh {
namespace {

std::string markdown_cell(std::string text) {
  for (size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2)) {
    text.insert(at, 1, '\\');
  }
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

std::string display_value(const json& value) {
  if (value.is_null()) return "none";
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const json& item : value) items.push_back(display_value(item));
    return "[" + join(items, ", ") + "]";
  }
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    const bool plain = !text.empty() && text.find_first_of(" \t\n\r\",#[]") == std::string::npos;
    if (plain) return text;
  }
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

namespace {

std::string source_of(const OptionEntry& entry, const Provenance& provenance) {
  const auto source = provenance.find(entry.key);
  return source == provenance.end() ? "default" : source->second;
}

}  // namespace

ordered_json describe_values_json(const OptionTable& options, const Provenance& provenance) {
  ordered_json list = ordered_json::array();
  for (const OptionEntry& entry : options) {
    list.push_back({{"key", entry.key},
                    {"value", ordered_json(entry.get())},
                    {"source", source_of(entry, provenance)}});
  }
  return list;
}

std::string describe_values(const OptionTable& options, const Provenance& provenance) {
  std::vector<std::string> settings;
  size_t width = 0;
  for (const OptionEntry& entry : options) {
    settings.push_back(cat(entry.key, " = ", display_value(entry.get())));
    width = std::max(width, std::min<size_t>(display_width(settings.back()), 60));
  }
  std::string text;
  for (size_t i = 0; i < options.size(); ++i) {
    const size_t used = display_width(settings[i]);
    text += settings[i];
    text.append(used < width ? width - used : 0, ' ');
    text += cat("  # ", source_of(options[i], provenance), "\n");
  }
  return text;
}

std::string options_markdown(const OptionTable& options) {
  std::string text = "| key | type | default | range | meaning |\n|---|---|---|---|---|\n";
  for (const OptionEntry& entry : options) {
    text += cat("| `", entry.key, "` | ", entry.type, entry.is_optional ? " or null" : "", " | `",
                markdown_cell(display_value(entry.get())), "` | ",
                entry.range ? markdown_cell(entry.range->text) : "", " | ",
                markdown_cell(entry.doc), " |\n");
  }
  return text;
}

}  // namespace llama2zh
