// pre_tokenizer of tokenizer.json: ByteLevel, Digits, Split, or a Sequence of them that ends with ByteLevel, each as
// tokenizers/src/pre_tokenizers applies it.
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "tokenizer/byte_level_file.h"

namespace llama2zh {
namespace {

// ByteLevel's own, from GPT-2's encoder.py.
constexpr const char* kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

[[noreturn]] void refuse(const std::string& where, std::string_view what) {
  fail_format(
      where, cat("pre_tokenizer: ", what),
      "Known are ByteLevel, Digits, Split, and a Sequence of them that ends with ByteLevel");
}

bool flag(const json& step, const char* key, bool fallback, const std::string& where) {
  const auto it = step.find(key);
  if (it == step.end()) return fallback;
  if (!it->is_boolean()) refuse(where, cat("\"", key, "\" is not true or false"));
  return it->get<bool>();
}

std::string text(const json& step, const char* key, const std::string& where) {
  const auto it = step.find(key);
  if (it == step.end() || !it->is_string()) refuse(where, cat("\"", key, "\" is not a text"));
  return it->get<std::string>();
}

SplitStep read_split(const json& step, const std::string& where) {
  const auto pattern = step.find("pattern");
  if (pattern == step.end() || !pattern->is_object())
    refuse(where, "Split without a \"pattern\" object");
  SplitStep split;
  split.pattern = pattern->contains("Regex") ? text(*pattern, "Regex", where)
                                             : escaped_pattern(text(*pattern, "String", where));
  const std::string behavior = text(step, "behavior", where);
  const bool invert = flag(step, "invert", false, where);
  // Isolated keeps all pieces, inverted or not.
  split.matches_only = behavior == "Removed" && invert;
  if (behavior != "Isolated" && !split.matches_only) {
    refuse(where, cat("Split with behavior \"", behavior, "\"", invert ? ", inverted" : "",
                      ", expected Isolated, or Removed with invert"));
  }
  return split;
}

void read_step(const json& step, const std::string& where, ByteLevelFile& file) {
  if (!step.is_object()) refuse(where, "a step is not an object");
  const std::string type = text(step, "type", where);
  if (type == "Digits") {
    const bool each = flag(step, "individual_digits", false, where);
    file.steps.push_back({each ? "\\p{N}" : "\\p{N}+"});
  } else if (type == "Split") {
    file.steps.push_back(read_split(step, where));
  } else if (type == "ByteLevel") {
    file.add_prefix_space = flag(step, "add_prefix_space", true, where);
    if (flag(step, "use_regex", true, where)) file.steps.push_back({kGpt2Pattern});
  } else {
    refuse(where, cat("\"", type, "\" is not known here"));
  }
}

}  // namespace

void read_pre_tokenizer(const json& value, const std::string& where, ByteLevelFile& file) {
  if (!value.is_object()) refuse(where, "it is missing");
  std::vector<json> steps = {value};
  if (text(value, "type", where) == "Sequence") {
    const auto list = value.find("pretokenizers");
    if (list == value.end() || !list->is_array() || list->empty())
      refuse(where, "Sequence without \"pretokenizers\"");
    steps = list->get<std::vector<json>>();
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool is_byte_level = steps[i].is_object() && text(steps[i], "type", where) == "ByteLevel";
    if (is_byte_level != (i + 1 == steps.size()))
      refuse(where, "ByteLevel is not its last step, or not its only one of that kind");
    read_step(steps[i], where, file);
  }
  // Each piece that an earlier step leaves would get a space of its own.
  if (file.add_prefix_space && steps.size() > 1)
    refuse(where, "add_prefix_space behind other steps");
}

}  // namespace llama2zh
