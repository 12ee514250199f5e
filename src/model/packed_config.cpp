// Keys: transformers' GPTQConfig and AwqConfig, GPTQModel's quantize_config.json, AutoAWQ's
// quant_config.json.
#include "packed_config.h"

#include <algorithm>
#include <cctype>

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kLargestGroup = 1 << 20;

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void read_bits(const ConfigReader& reader, const char* key, QuantizationConfig& config) {
  config.bits = reader.integer(key, 0, 0, 64);
  const bool gptq = config.packed->kind == PackedLayout::Kind::kGptq;
  if (config.bits == 4 || (gptq && config.bits == 8)) return;
  reader.fail(key, gptq ? "expected 4 or 8: other widths are not supported" : "expected 4");
}

// A wider group is several of the kernels' with one scale.
void read_group(const ConfigReader& reader, const char* key, QuantizationConfig& config) {
  const int64_t stored = reader.integer(key, 128, -1, kLargestGroup);
  config.packed->group_size = stored;
  config.group_size = -1;
  if (stored == -1) return;
  for (const int64_t group : {128, 64, 32}) {
    if (stored > 0 && stored % group == 0) {
      config.group_size = group;
      return;
    }
  }
  reader.fail(key, "expected -1 or a multiple of 32");
}

void read_gptq(const ConfigReader& reader, QuantizationConfig& config) {
  read_bits(reader, "bits", config);
  read_group(reader, "group_size", config);
  const std::string format =
      lower_case(reader.text("checkpoint_format", reader.text("format", "gptq")));
  if (format != "gptq" && format != "gptq_v2") {
    reader.fail(reader.has("checkpoint_format") ? "checkpoint_format" : "format",
                "expected \"gptq\" or \"gptq_v2\"", "save it in the gptq layout");
  }
  config.packed->zeros_less_one = format == "gptq";
  config.packed->act_order = reader.boolean("desc_act", false);
  if (reader.boolean("is_marlin_format", false)) {
    reader.fail("is_marlin_format", "Marlin's layout is not supported",
                "save it in the gptq layout");
  }
  if (const auto dynamic = reader.object("dynamic"); dynamic && !dynamic->empty()) {
    reader.fail("dynamic", "settings of single modules are not supported");
  }
  config.lm_head = reader.boolean("lm_head", false);
}

void read_awq(const ConfigReader& reader, QuantizationConfig& config) {
  read_bits(reader, reader.has("w_bit") ? "w_bit" : "bits", config);
  read_group(reader, reader.has("q_group_size") ? "q_group_size" : "group_size", config);
  if (lower_case(reader.text("version", "gemm")) != "gemm") {
    reader.fail("version", "expected \"gemm\": other layouts are not supported",
                "save it with version gemm");
  }
  for (const std::string& name : reader.texts("modules_to_not_convert")) {
    if (name != "lm_head") {
      reader.fail(
          "modules_to_not_convert",
          "expected nothing but lm_head: all projections of the layers have to be quantized");
    }
  }
}

}  // namespace

QuantizationConfig parse_packed_config(const ordered_json& value, std::string_view where,
                                       PackedLayout::Kind kind) {
  const ConfigReader reader(value, where, "quantization_config.");
  QuantizationConfig config;
  config.packed = PackedLayout{.kind = kind};
  config.packed->original = value;
  config.packed->original["quant_method"] = kind == PackedLayout::Kind::kGptq ? "gptq" : "awq";
  config.method = kind == PackedLayout::Kind::kGptq ? "gptq" : "awq";
  config.zeros = true;
  (kind == PackedLayout::Kind::kGptq ? read_gptq : read_awq)(reader, config);
  config.activations = read_activations(reader);
  return config;
}

}  // namespace llama2zh
