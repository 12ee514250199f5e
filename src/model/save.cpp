// Writing a model folder: config.json, generation_config.json, weights, tokenizer, manifest.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "full_weights.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/model/load.h"
#include "model_files.h"

namespace llama2zh {
namespace {

// The ids only: sampling settings are the user's choice, and transformers refuses to save some
// combinations.
ordered_json generation_config(const LlamaConfig& config) {
  ordered_json out = {{"_from_model_config", true}};
  if (config.bos_token_id) out["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_id.size() == 1) out["eos_token_id"] = config.eos_token_id.front();
  if (config.eos_token_id.size() > 1) out["eos_token_id"] = config.eos_token_id;
  if (config.pad_token_id) out["pad_token_id"] = *config.pad_token_id;
  return out;
}

}  // namespace

void write_config_files(const std::filesystem::path& folder, const LlamaConfig& config) {
  write_json_file(folder / "config.json", config.to_json());
  write_json_file(folder / "generation_config.json", generation_config(config));
}

std::vector<TensorInfo> expected_tensors(const LlamaConfig& config, at::ScalarType dtype) {
  const int64_t h = config.hidden_size, i = config.intermediate_size, v = config.vocab_size;
  const int64_t q = config.num_attention_heads * config.head_dim;
  const int64_t k = config.num_key_value_heads * config.head_dim;
  const std::vector<std::pair<const char*, std::vector<int64_t>>> layer = {
      {"self_attn.q_proj", {q, h}},     {"self_attn.k_proj", {k, h}},
      {"self_attn.v_proj", {k, h}},     {"self_attn.o_proj", {h, q}},
      {"mlp.gate_proj", {i, h}},        {"mlp.up_proj", {i, h}},
      {"mlp.down_proj", {h, i}},        {"input_layernorm", {h}},
      {"post_attention_layernorm", {h}}};
  std::vector<TensorInfo> result;
  const auto add = [&](std::string name, const std::vector<int64_t>& shape) {
    const TensorInfo weight{std::move(name), dtype, shape};
    if (!config.quantization ||
        !is_quantized(*config.quantization, weight.name, config.tie_word_embeddings)) {
      result.push_back(weight);
      return;
    }
    for (TensorInfo& part : quantized_tensors(*config.quantization, weight))
      result.push_back(std::move(part));
  };
  add(kEmbeddingName, {v, h});
  for (int64_t n = 0; n < config.num_hidden_layers; ++n) {
    for (const auto& [name, shape] : layer)
      add(cat("model.layers.", n, ".", name, ".weight"), shape);
  }
  add("model.norm.weight", {h});
  if (!config.tie_word_embeddings) add(kHeadName, {v, h});
  return result;
}

void save_model(const std::filesystem::path& folder, const LlamaConfig& config,
                const std::function<at::Tensor(const std::string& name)>& weight,
                const Tokenizer* tokenizer, const SaveOptions& options) {
  const std::vector<TensorInfo> infos = expected_tensors(config, options.dtype);
  ShardedWriter writer(folder, infos, options.max_shard_bytes);
  for (const TensorInfo& info : infos) {
    writer.add(info.name, weight(info.name).detach().to(options.dtype));
  }
  writer.finish();
  LlamaConfig stored = config;
  stored.dtype = dtype_name(options.dtype);
  write_config_files(folder, stored);
  if (tokenizer != nullptr) tokenizer->save(folder, options.template_name);
  if (!options.manifest) return;
  Manifest manifest;
  manifest.kind = "model";
  if (tokenizer != nullptr) manifest.tokenizer_sha256 = tokenizer->fingerprint();
  manifest.vocab_size = config.vocab_size;
  manifest.extra = ordered_json::object();
  write_manifest(folder, manifest);
}

void save_model(const std::filesystem::path& folder, Llama& model, const Tokenizer* tokenizer,
                const SaveOptions& options) {
  std::map<std::string, at::Tensor> weights;  // shared, not copied
  model.for_each_weight(
      [&](const std::string& name, const at::Tensor& tensor) { weights[name] = tensor; });
  const auto weight = [&](const std::string& name) {
    if (name == kEmbeddingName) return whole_embedding(model, options.dtype);
    return name == kHeadName ? whole_head(model, options.dtype) : weights.at(name);
  };
  save_model(folder, model.config, weight, tokenizer, options);
}

std::string model_identity(const OpenModel& open) {
  constexpr int64_t kSampledBytes = 256;
  const LlamaConfig& config = open.config;
  std::string text = cat(config.vocab_size, " ", config.hidden_size, " ", config.intermediate_size,
                         " ", config.num_hidden_layers, " ", config.num_attention_heads, " ",
                         config.num_key_value_heads, " ", config.head_dim, " ", config.rope.theta,
                         " ", config.rope.type, " ", config.rope.factor, "\n");
  for (const TensorInfo& info : expected_tensors(config, at::kFloat)) {
    const at::Tensor tensor = open.source->load(info.name).contiguous();
    const auto bytes =
        static_cast<size_t>(std::min(static_cast<int64_t>(tensor.nbytes()), kSampledBytes));
    text += cat(info.name, " ", tensor.sizes(), " ", dtype_name(tensor.scalar_type()), " ");
    text += sha256_hex({static_cast<const char*>(tensor.const_data_ptr()), bytes});
    text += "\n";
  }
  return sha256_hex(text);
}

}  // namespace llama2zh
