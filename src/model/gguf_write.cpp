// A model as a llama.cpp .gguf: keys and the permutation of q and k rows as its
// convert_hf_to_gguf.py writes them, types of tensors as its quantize chooses them.
#include <ATen/ops/tensor.h>

#include <array>

#include "gguf_names.h"
#include "gguf_vocabulary.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/gguf.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

constexpr uint32_t kQuantizationVersion = 2;
constexpr int64_t kSuperBlock = 256;

struct ExportType {
  const char* name;
  GgmlType type;
  uint32_t file_type;  // general.file_type
};
constexpr std::array<ExportType, 5> kExportTypes = {{{"f32", GgmlType::kF32, 0},
                                                     {"f16", GgmlType::kF16, 1},
                                                     {"bf16", GgmlType::kBF16, 32},
                                                     {"q8_0", GgmlType::kQ8_0, 7},
                                                     {"q4_0", GgmlType::kQ4_0, 2}}};

const ExportType& export_type(const std::string& name, at::ScalarType stored) {
  std::string wanted = name;
  if (name == "auto") {
    wanted = stored == at::kHalf ? "f16" : stored == at::kBFloat16 ? "bf16" : "f32";
  }
  for (const ExportType& type : kExportTypes) {
    if (wanted == type.name) return type;
  }
  fail_usage("gguf_type", cat("\"", name, "\" is none of auto, ", join(gguf_export_types(), ", ")));
}

GgmlType tensor_type(const TensorInfo& weight, const ExportType& wanted, bool is_head) {
  if (weight.shape.size() < 2) return GgmlType::kF32;
  const int64_t row = weight.shape.back();
  if (wanted.type == GgmlType::kQ4_0 && is_head) {
    if (row % kSuperBlock == 0) return GgmlType::kQ6_K;
    if (row % ggml_block_size(GgmlType::kQ8_0) == 0) return GgmlType::kQ8_0;
  }
  return row % ggml_block_size(wanted.type) == 0 ? wanted.type : GgmlType::kF16;
}

void put_u32(GgufMetadata& data, const std::string& key, int64_t value) {
  data.set(key, GgufValue::uint32(static_cast<uint32_t>(value)));
}

void put_f32(GgufMetadata& data, const std::string& key, double value) {
  data.set(key, GgufValue::float32(static_cast<float>(value)));
}

void put_rope(const LlamaConfig& config, GgufMetadata& data) {
  const RopeConfig& rope = config.rope;
  put_u32(data, "llama.rope.dimension_count", config.head_dim);
  put_f32(data, "llama.rope.freq_base", rope.theta);
  if (rope.type != "linear" && rope.type != "yarn") return;
  data.set("llama.rope.scaling.type", GgufValue::text(rope.type));
  put_f32(data, "llama.rope.scaling.factor", rope.factor);
  if (rope.type == "linear") return;
  put_u32(data, "llama.rope.scaling.original_context_length",
          rope.original_max_position_embeddings);
  put_f32(data, "llama.rope.scaling.yarn_beta_fast", rope.beta_fast);
  put_f32(data, "llama.rope.scaling.yarn_beta_slow", rope.beta_slow);
}

GgufMetadata export_metadata(const std::string& where, const LlamaConfig& config,
                             const Tokenizer& tokenizer, const ExportType& type,
                             const std::string& name) {
  GgufMetadata data(where);
  data.set("general.architecture", GgufValue::text("llama"));
  data.set("general.type", GgufValue::text("model"));
  if (!name.empty()) data.set("general.name", GgufValue::text(name));
  put_u32(data, "general.file_type", type.file_type);
  if (ggml_is_quantized(type.type)) {
    put_u32(data, "general.quantization_version", kQuantizationVersion);
  }
  put_u32(data, "llama.vocab_size", config.vocab_size);
  put_u32(data, "llama.context_length", config.max_position_embeddings);
  put_u32(data, "llama.embedding_length", config.hidden_size);
  put_u32(data, "llama.block_count", config.num_hidden_layers);
  put_u32(data, "llama.feed_forward_length", config.intermediate_size);
  put_u32(data, "llama.attention.head_count", config.num_attention_heads);
  put_u32(data, "llama.attention.head_count_kv", config.num_key_value_heads);
  put_u32(data, "llama.attention.key_length", config.head_dim);
  put_u32(data, "llama.attention.value_length", config.head_dim);
  put_f32(data, "llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  put_rope(config, data);
  put_gguf_vocabulary(tokenizer, data);
  return data;
}

at::Tensor in_gguf_order(const TensorSource& source, const std::string& name,
                         const LlamaConfig& config) {
  at::Tensor weight = source.load(name);
  const RotaryRows rows = rotary_rows_of(name);
  if (rows == RotaryRows::kNo) return weight;
  return permute_hf_to_meta(
      weight, rows == RotaryRows::kQuery ? config.num_attention_heads : config.num_key_value_heads);
}

at::Tensor rope_divisors(const LlamaConfig& config) {
  const auto divisors = llama3_frequency_divisors(config.rope, config.head_dim);
  return at::tensor(at::ArrayRef<float>(divisors));
}

}  // namespace

std::vector<std::string> gguf_export_types() {
  std::vector<std::string> names;
  for (const ExportType& type : kExportTypes) names.emplace_back(type.name);
  return names;
}

void check_gguf_export(const LlamaConfig& config) {
  const RopeConfig& rope = config.rope;
  const bool plain_yarn =
      rope.truncate && !rope.attention_factor && rope.mscale == 0 && rope.mscale_all_dim == 0;
  if (rope.type == "yarn" && !plain_yarn) {
    fail_usage("rope_parameters",
               "truncate, attention_factor and mscale of yarn scaling have no counterpart in GGUF");
  }
  if (rope.type == "dynamic") {
    log_warning(cat("GGUF has no dynamic scaling: the file is good for ",
                    config.max_position_embeddings, " positions"));
  }
}

void write_gguf_model(const std::filesystem::path& file, const TensorSource& source,
                      const LlamaConfig& config, const Tokenizer& tokenizer,
                      const GgufExport& options) {
  check_gguf_export(config);
  const std::vector<TensorInfo> weights = expected_tensors(config, at::kFloat);
  const ExportType& type = export_type(options.type, source.require(weights.front().name).dtype);
  const std::string head =
      config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  const bool has_divisors = config.rope.type == "llama3";
  std::vector<GgufTensor> tensors;
  if (has_divisors) tensors.push_back({kRopeFreqsName, {config.head_dim / 2}, GgmlType::kF32});
  for (const TensorInfo& weight : weights) {
    tensors.push_back({gguf_name_of(weight.name).value(), weight.shape,
                       tensor_type(weight, type, weight.name == head)});
  }
  GgufWriter writer(file, export_metadata(file.string(), config, tokenizer, type, options.name),
                    tensors);
  if (has_divisors) writer.add(kRopeFreqsName, rope_divisors(config));
  for (const TensorInfo& weight : weights) {
    writer.add(gguf_name_of(weight.name).value(), in_gguf_order(source, weight.name, config));
  }
  writer.finish();
}

}  // namespace llama2zh
