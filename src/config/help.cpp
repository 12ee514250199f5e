// The help page of a verb, from its option table.
#include <algorithm>

#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/command_line.h"

namespace llama2zh {
namespace {

constexpr size_t kDocColumn = 30;

// "lora" of "lora.rank"; "" of a key that belongs to no section.
std::string section_of(const std::string& key) {
  const size_t dot = key.rfind('.');
  return dot == std::string::npos ? "" : key.substr(0, dot);
}

bool listed(const std::vector<std::string>& keys, const std::string& key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// Where a config file goes with the command line, flags are spelt as in the file.
std::string flag_of(const CommandSpec& spec, const std::string& key) {
  std::string flag = "--" + key;
  if (!spec.config_file) std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

std::string placeholder_of(const OptionEntry& entry) {
  if (entry.is_boolean) return "";
  if (entry.type == "list of texts") return " TEXT...";
  if (entry.type == "list of integers") return " N...";
  if (entry.type == "integer") return " N";
  return entry.type == "number" ? " X" : " TEXT";
}

// Breaks `text` at spaces so that no line is wider than `columns`; lines after the first begin with
// `indent` spaces.
std::string wrapped(const std::string& text, size_t columns, size_t indent) {
  std::string lines;
  size_t used = 0;
  for (const std::string& word : split(text, ' ')) {
    const size_t width = display_width(word);
    if (used > 0 && used + 1 + width > columns) {
      lines += "\n" + std::string(indent, ' ');
      used = 0;
    }
    if (used > 0) lines += ' ';
    lines += word;
    used += width + (used > 0 ? 1 : 0);
  }
  return lines;
}

std::string option_line(const std::string& flag, const std::string& doc, size_t columns) {
  std::string line = "  " + flag;
  if (line.size() + 2 > kDocColumn) {
    line += "\n" + std::string(kDocColumn, ' ');
  } else {
    line.resize(kDocColumn, ' ');
  }
  return line + wrapped(doc, columns - kDocColumn, kDocColumn) + "\n";
}

// "Meaning. [integer, 1 to 4096; default 8]"
std::string option_doc(const CommandSpec& spec, const OptionEntry& entry) {
  std::string facts = entry.type;
  if (entry.range) facts += ", " + entry.range->text;
  facts +=
      listed(spec.required, entry.key) ? "; required" : "; default " + display_value(entry.get());
  return entry.doc + " [" + facts + "]";
}

std::string usage_line(const CommandSpec& spec, const OptionTable& options) {
  std::string line = "usage: llama2zh " + spec.verb;
  for (const std::string& key : spec.positional) {
    const OptionEntry* entry = find_option(options, key);
    std::string name = key;
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    if (entry != nullptr && entry->is_list) name += "...";
    line += listed(spec.required, key) ? " " + name : " [" + name + "]";
  }
  for (const std::string& key : spec.required) {
    const OptionEntry* entry = find_option(options, key);
    if (entry == nullptr || listed(spec.positional, key)) continue;
    line += " " + flag_of(spec, key) + placeholder_of(*entry);
  }
  if (spec.config_file) line += " [--config FILE]";
  return line + " [options]\n";
}

}  // namespace

std::string help_text(const CommandSpec& spec, const OptionTable& options) {
  const size_t columns = std::clamp<size_t>(static_cast<size_t>(terminal_width()), 60, 110);
  std::string text = wrapped(spec.summary, columns, 0) + "\n\n" + usage_line(spec, options);
  std::vector<std::string> sections;
  for (const OptionEntry& entry : options) {
    if (!listed(sections, section_of(entry.key))) sections.push_back(section_of(entry.key));
  }
  for (const std::string& section : sections) {
    text += section.empty() ? "\noptions:\n" : "\n" + section + ":\n";
    for (const OptionEntry& entry : options) {
      if (section_of(entry.key) != section) continue;
      const std::string flag = flag_of(spec, entry.key) + placeholder_of(entry);
      text += option_line(flag, option_doc(spec, entry), columns);
    }
  }
  text += "\n";
  if (spec.config_file) {
    text +=
        option_line("--config FILE", "JSON file with these keys; the command line wins.", columns);
  }
  text += option_line("--help", "This page.", columns);
  text += wrapped(
              "Booleans are --key or --no-key; lists are --key a b c, the empty one is --key=; '-' "
              "and '_' in keys are the same.",
              columns, 0) +
          "\n";
  if (!spec.examples.empty()) text += "\nexamples:\n";
  for (const std::string& example : spec.examples) text += "  " + example + "\n";
  return text;
}

}  // namespace llama2zh
