#include "llama2zh/model/quantization_config.h"

#include <ATen/TensorOperators.h>

#include "config_reader.h"
#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "packed_config.h"

namespace llama2zh {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr int64_t kColumns = 16;      // of a block of codes
constexpr int64_t kRowPadding = 128;  // of a row with one scale

std::string one_of_texts(const ConfigReader& reader, const char* key, const std::string& absent,
                         const std::vector<std::string>& known) {
  std::string value = reader.text(key, absent);
  for (const std::string& each : known)
    if (value == each) return value;
  reader.fail(key, cat("expected ", join(known, " or ")));
}

}  // namespace

std::string read_activations(const ConfigReader& reader) {
  return one_of_texts(reader, "activations", "int8", {"int8", "float"});
}

QuantizationConfig QuantizationConfig::parse(const ordered_json& value, std::string_view where) {
  const ConfigReader reader(value, where, "quantization_config.");
  const std::string by = reader.text("quant_method", "");
  if (by == "gptq") return parse_packed_config(value, where, PackedLayout::Kind::kGptq);
  if (by == "awq") return parse_packed_config(value, where, PackedLayout::Kind::kAwq);
  if (by != "llama2zh") {
    reader.fail("quant_method",
                "weights quantized by another tool are not supported, but gptq and awq",
                "use the model's float16 or bfloat16 weights, and llama2zh quantize");
  }
  QuantizationConfig config;
  config.bits = reader.integer("bits", 0, 4, 8);
  if (config.bits != 4 && config.bits != 8) reader.fail("bits", "expected 4 or 8");
  config.group_size = reader.integer("group_size", 0, -1, 128);
  if (config.group_size != -1 && config.group_size != 32 && config.group_size != 64 &&
      config.group_size != 128) {
    reader.fail("group_size", "expected -1, 32, 64 or 128");
  }
  config.method = reader.text("method", config.method);
  config.lm_head = reader.boolean("lm_head", false);
  config.embed_tokens = reader.boolean("embed_tokens", false);
  config.activations = read_activations(reader);
  return config;
}

ordered_json QuantizationConfig::to_json() const {
  if (packed) return packed->original;
  return {{"quant_method", "llama2zh"}, {"bits", bits},       {"group_size", group_size},
          {"method", method},           {"lm_head", lm_head}, {"embed_tokens", embed_tokens},
          {"activations", activations}};
}

bool is_quantized(const QuantizationConfig& config, std::string_view weight_name, bool tied) {
  if (weight_name == kEmbeddingName) return config.embed_tokens || (tied && config.lm_head);
  if (weight_name == kHeadName) return config.lm_head;
  return weight_name.ends_with("_proj.weight");
}

std::vector<TensorInfo> quantized_tensors(const QuantizationConfig& config,
                                          const TensorInfo& weight) {
  const int64_t in = weight.shape.at(1);
  const bool per_row = config.group_size == -1;
  const int64_t group = per_row ? kRowPadding : config.group_size;
  const int64_t blocks = (weight.shape.at(0) + kColumns - 1) / kColumns;
  const int64_t groups = (in + group - 1) / group;
  const std::string module = weight.name.substr(0, weight.name.size() - kWeight.size());
  const std::vector<int64_t> scales = {blocks, per_row ? 1 : groups, kColumns};
  std::vector<TensorInfo> result = {
      {module + ".codes", at::kByte, {blocks, groups * group * kColumns * config.bits / 8}},
      {module + ".scales", per_row ? at::kFloat : at::kHalf, scales}};
  if (config.zeros) result.push_back({module + ".zeros", at::kByte, scales});
  if (config.columns) result.push_back({module + ".columns", at::kLong, {in}});
  return result;
}

QuantizedMatrix load_quantized(const TensorSource& source, const QuantizationConfig& config,
                               const TensorInfo& weight) {
  const std::string module = weight.name.substr(0, weight.name.size() - kWeight.size());
  QuantizedMatrix matrix;
  matrix.out = weight.shape.at(0);
  matrix.in = weight.shape.at(1);
  matrix.bits = static_cast<int>(config.bits);
  matrix.group_size = config.group_size == -1 ? matrix.in : config.group_size;
  matrix.codes = source.load(module + ".codes");
  matrix.scales = source.load(module + ".scales");
  if (config.zeros) {
    const at::Tensor zeros = source.load(module + ".zeros");
    // The kernels are quicker without.
    if (zeros.ne(int64_t{1} << (config.bits - 1)).any().item<bool>()) matrix.zeros = zeros;
  }
  if (config.columns) matrix.set_columns(source.load(module + ".columns"), module);
  matrix.check(module);
  return matrix;
}

}  // namespace llama2zh
