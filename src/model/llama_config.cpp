// config.json of LlamaForCausalLM. Two spellings circulate: transformers 4 has rope_theta,
// rope_scaling and torch_dtype at the top; transformers 5 has rope_parameters and dtype and reads
// the old ones (a rope_scaling that is not null replaces rope_parameters). A version 4 reader of a
// version 5 file silently falls back to theta 10000, so we write both, with equal meaning.
#include "llama2zh/model/llama_config.h"

#include <utility>

#include "config_reader.h"
#include "llama2zh/base/text.h"
#include "rope_config.h"

namespace llama2zh {
namespace {

// Beyond any model that exists: a file that claims more is broken.
constexpr int64_t kMaxVocabulary = 4'000'000;
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxPositions = 100'000'000;

void check_architecture(const ConfigReader& reader) {
  const char* const remedy = "only LLaMA models are supported";
  const std::string type = reader.text("model_type", "");
  const auto architectures = reader.texts("architectures");
  if (type.empty() && architectures.empty()) {
    reader.fail("model_type", "neither model_type nor architectures is there", remedy);
  }
  if (!type.empty() && type != "llama") reader.fail("model_type", "expected \"llama\"", remedy);
  for (const std::string& name : architectures) {
    if (name != "LlamaForCausalLM" && name != "LLaMAForCausalLM") {
      reader.fail("architectures", "expected \"LlamaForCausalLM\"", remedy);
    }
  }
  if (reader.text("hidden_act", "silu") != "silu") reader.fail("hidden_act", "expected \"silu\"");
  for (const char* bias : {"attention_bias", "mlp_bias"}) {
    if (reader.boolean(bias, false)) reader.fail(bias, "biases are not supported");
  }
}

void read_sizes(const ConfigReader& reader, LlamaConfig& config) {
  config.vocab_size = reader.integer("vocab_size", config.vocab_size, 1, kMaxVocabulary);
  config.hidden_size = reader.integer("hidden_size", config.hidden_size, 1, kMaxWidth);
  config.intermediate_size =
      reader.integer("intermediate_size", config.intermediate_size, 1, kMaxWidth);
  config.num_hidden_layers =
      reader.integer("num_hidden_layers", config.num_hidden_layers, 1, kMaxLayers);
  const int64_t heads =
      reader.integer("num_attention_heads", config.num_attention_heads, 1, kMaxHeads);
  config.num_attention_heads = heads;
  config.num_key_value_heads = reader.integer("num_key_value_heads", heads, 1, heads);
  if (config.hidden_size % heads != 0) {
    reader.fail("hidden_size", cat("not a multiple of num_attention_heads, which is ", heads));
  }
  if (heads % config.num_key_value_heads != 0) {
    reader.fail("num_key_value_heads",
                cat("does not divide num_attention_heads, which is ", heads));
  }
  config.head_dim = reader.integer("head_dim", config.hidden_size / heads, 1, 65536);
  if (config.head_dim % 2 != 0) {
    reader.fail("head_dim", cat("rotary embedding needs an even head_dim, not ", config.head_dim));
  }
  config.max_position_embeddings =
      reader.integer("max_position_embeddings", config.max_position_embeddings, 1, kMaxPositions);
}

void read_dtype(const ConfigReader& reader, LlamaConfig& config) {
  const char* const key = reader.has("dtype") ? "dtype" : "torch_dtype";
  config.dtype = reader.text(key, config.dtype);
  if (config.dtype != "float32" && config.dtype != "float16" && config.dtype != "bfloat16") {
    reader.fail(key, "expected float32, float16 or bfloat16");
  }
}

std::optional<int64_t> first_id(const std::vector<int64_t>& ids) {
  return ids.empty() ? std::nullopt : std::optional<int64_t>(ids.front());
}

ordered_json id_or_null(const std::optional<int64_t>& id) {
  return id ? ordered_json(*id) : ordered_json(nullptr);
}

}  // namespace

LlamaConfig LlamaConfig::parse(const ordered_json& value, std::string_view where) {
  const ConfigReader reader(value, where);
  LlamaConfig config;
  check_architecture(reader);
  read_sizes(reader, config);
  config.rope = read_rope(reader, config.max_position_embeddings);
  read_dtype(reader, config);
  config.rms_norm_eps = reader.number("rms_norm_eps", config.rms_norm_eps, 0, 1);
  config.initializer_range = reader.number("initializer_range", config.initializer_range, 0, 100);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", config.tie_word_embeddings);
  config.bos_token_id = first_id(reader.ids("bos_token_id", {1}));
  config.eos_token_id = reader.ids("eos_token_id", {2});
  config.pad_token_id = first_id(reader.ids("pad_token_id", {}));
  if (reader.has("quantization_config")) {
    config.quantization = QuantizationConfig::parse(value.at("quantization_config"), where);
  }
  config.original = value;
  return config;
}

LlamaConfig LlamaConfig::read(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  return parse(read_ordered_json_file(file), file.string());
}

ordered_json LlamaConfig::to_json() const {
  ordered_json out = original.is_object() ? original : ordered_json::object();
  out["architectures"] = {"LlamaForCausalLM"};
  out["model_type"] = "llama";
  out["vocab_size"] = vocab_size;
  out["hidden_size"] = hidden_size;
  out["intermediate_size"] = intermediate_size;
  out["num_hidden_layers"] = num_hidden_layers;
  out["num_attention_heads"] = num_attention_heads;
  out["num_key_value_heads"] = num_key_value_heads;
  out["head_dim"] = head_dim;
  out["hidden_act"] = "silu";
  out["max_position_embeddings"] = max_position_embeddings;
  out["rms_norm_eps"] = rms_norm_eps;
  out["initializer_range"] = initializer_range;
  out["tie_word_embeddings"] = tie_word_embeddings;
  write_rope(out, rope);
  out["torch_dtype"] = dtype;
  out["dtype"] = dtype;
  out["bos_token_id"] = id_or_null(bos_token_id);
  out["eos_token_id"] = nullptr;
  if (eos_token_id.size() == 1) out["eos_token_id"] = eos_token_id.front();
  if (eos_token_id.size() > 1) out["eos_token_id"] = eos_token_id;
  out["pad_token_id"] = id_or_null(pad_token_id);
  out.erase("quantization_config");
  if (quantization) out["quantization_config"] = quantization->to_json();
  return out;
}

LayerShape LlamaConfig::layer_shape() const {
  return {hidden_size,         intermediate_size, num_attention_heads,
          num_key_value_heads, head_dim,          rms_norm_eps};
}

int64_t LlamaConfig::parameter_count() const {
  const int64_t query = num_attention_heads * head_dim * hidden_size;
  const int64_t key = num_key_value_heads * head_dim * hidden_size;
  const int64_t layer = 2 * query + 2 * key + 3 * intermediate_size * hidden_size + 2 * hidden_size;
  const int64_t heads = tie_word_embeddings ? 1 : 2;
  return heads * vocab_size * hidden_size + num_hidden_layers * layer + hidden_size;
}

}  // namespace llama2zh
