#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "llama2zh/config/option.h"

namespace llama2zh {

// Where each value came from: key -> "default" (or no entry), "configs/x.json:12", "command line".
using Provenance = std::map<std::string, std::string>;

// Reads a JSON config (// and /* */ comments allowed; sections are objects, or dots in a key) into
// the bound object. Unknown keys are kUsage errors that name file, line and the nearest known key;
// so are wrong types and values out of range. Keys that the file lacks keep their values.
void load_config_file(const OptionTable& options, const std::filesystem::path& path,
                      Provenance& provenance);

// Sets one option from text as the command line gives it: "1e-4", "true", "null" (of an optional).
// Each value of a list is one element, several with commas between them ("a,b"), or a JSON list
// ('["a,b"]', for texts that hold a comma); of a list of sections a JSON object or list. `where` is put into errors and into `provenance`.
void set_from_text(const OptionTable& options, const std::string& key,
                   const std::vector<std::string>& values, std::string_view where,
                   Provenance& provenance);

const OptionEntry* find_option(const OptionTable& options,
                               std::string_view key);  // "-" and "_" are the same; null if none

// The same; or, for a name without a section, the only key that ends so: "skip-bad-rows" is
// data.skip_bad_rows. For command lines; files name their keys in full.
const OptionEntry* find_named_option(const OptionTable& options, std::string_view name);

// The remedy for an unknown key: `did you mean "lora.rank"?`, or "" if no key is near.
std::string did_you_mean(const OptionTable& options, std::string_view key);

// kUsage if any value, defaults included, is outside its range: an option that may not be empty and
// has an empty default must be given.
void check_values(const OptionTable& options, const Provenance& provenance);

// The resolved config as nested JSON, keys in declaration order: what a run writes into its output
// folder and can be started from again.
ordered_json to_json(const OptionTable& options);

// A value as people read it: null is "none", a list [a, b], a text in quotes only if it is empty or
// has spaces.
std::string display_value(const json& value);
// "key = value  # source" lines for `config show`.
std::string describe_values(const OptionTable& options, const Provenance& provenance);
// The same as [{"key", "value", "source"}, ...].
ordered_json describe_values_json(const OptionTable& options, const Provenance& provenance);
// A Markdown table "| key | type | default | range | meaning |" for docs/options.md.
std::string options_markdown(const OptionTable& options);

}  // namespace llama2zh
