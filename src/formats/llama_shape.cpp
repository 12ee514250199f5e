// The tensors of a LLaMA-2 under Meta's and Hugging Face's names, its sizes as config.json, and the
// row order of Q and K: Meta rotates neighbours (2i, 2i+1) of a head, Hugging Face its halves
// (i, i + d/2), so a head's rows 0 1 2 3 .. of Meta are 0 2 4 .. 1 3 5 .. of Hugging Face.
#include "formats/llama_shape.h"

#include <cmath>

#include "formats/dtype.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/meta.h"

namespace llama2zh {

namespace {

constexpr int64_t kMaxLlamaSize = int64_t{1} << 24;  // rows or columns of a matrix

void check_llama_size(std::string_view where, std::string_view name, int64_t value) {
  if (value < 1 || value > kMaxLlamaSize) {
    fail_format(where, cat(name, " is ", value, ", expected 1 to ", kMaxLlamaSize));
  }
}

int64_t config_integer(const ordered_json& config, const char* key, int64_t fallback,
                       std::string_view where) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  if (!it->is_number_integer()) {
    fail_format(where, cat(key, " is ", it->dump(), ", expected a whole number"));
  }
  return it->get<int64_t>();
}

double config_number(const ordered_json& config, const char* key, double fallback,
                     std::string_view where) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  if (!it->is_number()) fail_format(where, cat(key, " is ", it->dump(), ", expected a number"));
  return it->get<double>();
}

bool config_flag(const ordered_json& config, const char* key, std::string_view where) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return false;
  if (!it->is_boolean()) {
    fail_format(where, cat(key, " is ", it->dump(), ", expected true or false"));
  }
  return it->get<bool>();
}

bool is_default_rope(const ordered_json& rope) {
  for (const char* key : {"rope_type", "type"}) {
    if (const auto it = rope.find(key); it != rope.end() && *it != "default") return false;
  }
  return true;
}

// A key that would change the computation and that the foreign formats cannot state.
void check_plain_llama(const ordered_json& config, std::string_view where) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (config_flag(config, key, where)) {
      fail_format(where, cat(key, " is set: the target format has no biases"));
    }
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto it = config.find(key);
    if (it == config.end() || it->is_null()) continue;
    if (!it->is_object() || !is_default_rope(*it)) {
      fail_format(where, cat(key, " is set: the target format cannot express rope scaling"));
    }
  }
  if (const auto it = config.find("hidden_act"); it != config.end() && *it != "silu") {
    fail_format(where, cat("hidden_act is ", it->dump(), ", expected \"silu\""));
  }
}

}  // namespace

void check_llama_shape(const LlamaShape& shape, std::string_view where) {
  check_llama_size(where, "the hidden size", shape.hidden);
  check_llama_size(where, "the intermediate size", shape.intermediate);
  check_llama_size(where, "the number of layers", shape.layers);
  check_llama_size(where, "the number of heads", shape.heads);
  check_llama_size(where, "the number of key/value heads", shape.kv_heads);
  check_llama_size(where, "the vocabulary size", shape.vocab);
  check_llama_size(where, "the number of positions", shape.max_positions);
  if (shape.hidden % shape.heads != 0 || shape.head_dim() % 2 != 0) {
    fail_format(where, cat("hidden size ", shape.hidden, " does not give ", shape.heads,
                           " heads of an even width"));
  }
  if (shape.kv_heads > shape.heads || shape.heads % shape.kv_heads != 0) {
    fail_format(
        where, cat(shape.heads, " heads cannot share ", shape.kv_heads, " key/value heads evenly"));
  }
  if (!(shape.norm_eps > 0 && shape.norm_eps < 1)) {
    fail_format(where, cat("the norm's epsilon is ", shape.norm_eps, ", expected 0 to 1"));
  }
  if (!(shape.rope_theta >= 1 && std::isfinite(shape.rope_theta))) {
    fail_format(where, cat("rope_theta is ", shape.rope_theta, ", expected at least 1"));
  }
}

ordered_json llama_config_json(const LlamaShape& shape, at::ScalarType dtype) {
  ordered_json out;
  out["architectures"] = {"LlamaForCausalLM"};
  out["model_type"] = "llama";
  out["vocab_size"] = shape.vocab;
  out["hidden_size"] = shape.hidden;
  out["intermediate_size"] = shape.intermediate;
  out["num_hidden_layers"] = shape.layers;
  out["num_attention_heads"] = shape.heads;
  out["num_key_value_heads"] = shape.kv_heads;
  out["head_dim"] = shape.head_dim();
  out["max_position_embeddings"] = shape.max_positions;
  out["rms_norm_eps"] = shape.norm_eps;
  out["rope_theta"] = shape.rope_theta;
  out["rope_scaling"] = nullptr;
  out["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", shape.rope_theta}};
  out["hidden_act"] = "silu";
  out["initializer_range"] = 0.02;
  out["tie_word_embeddings"] = shape.tied;
  out["attention_bias"] = false;
  out["mlp_bias"] = false;
  out["bos_token_id"] = 1;
  out["eos_token_id"] = 2;
  out["pad_token_id"] = nullptr;
  out["use_cache"] = true;
  out["torch_dtype"] = dtype_names(dtype)->torch;
  out["dtype"] = dtype_names(dtype)->torch;
  return out;
}

LlamaShape llama_shape_of(const ordered_json& config, std::string_view where) {
  if (!config.is_object()) fail_format(where, "expected a JSON object");
  check_plain_llama(config, where);
  LlamaShape shape;
  shape.hidden = config_integer(config, "hidden_size", 4096, where);
  shape.intermediate = config_integer(config, "intermediate_size", 11008, where);
  shape.layers = config_integer(config, "num_hidden_layers", 32, where);
  shape.heads = config_integer(config, "num_attention_heads", 32, where);
  shape.kv_heads = config_integer(config, "num_key_value_heads", shape.heads, where);
  shape.vocab = config_integer(config, "vocab_size", 32000, where);
  shape.max_positions = config_integer(config, "max_position_embeddings", 2048, where);
  shape.norm_eps = config_number(config, "rms_norm_eps", 1e-6, where);
  shape.rope_theta = config_number(config, "rope_theta", 10000, where);
  if (const auto it = config.find("rope_parameters"); it != config.end() && it->is_object()) {
    shape.rope_theta = config_number(*it, "rope_theta", shape.rope_theta, where);
  }
  shape.tied = config_flag(config, "tie_word_embeddings", where);
  check_llama_shape(shape, where);
  if (const int64_t width = config_integer(config, "head_dim", shape.head_dim(), where);
      width != shape.head_dim()) {
    fail_format(where, cat("head_dim is ", width, ", but the target format can only express ",
                           shape.head_dim(), " (hidden_size / num_attention_heads)"));
  }
  return shape;
}

std::vector<MetaTensor> meta_tensors(const LlamaShape& shape) {
  using Parts = MetaTensor::Parts;
  const int64_t hidden = shape.hidden, inner = shape.intermediate, kv = shape.kv_rows();
  std::vector<MetaTensor> all;
  all.push_back({"tok_embeddings.weight",
                 "model.embed_tokens.weight",
                 {shape.vocab, hidden},
                 Parts::kColumns});
  all.push_back({"norm.weight", "model.norm.weight", {hidden}});
  if (!shape.tied) {
    all.push_back({"output.weight", "lm_head.weight", {shape.vocab, hidden}, Parts::kRows});
  }
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::string meta = cat("layers.", layer, "."), hf = cat("model.layers.", layer, ".");
    const auto add = [&](const char* theirs, const char* ours, std::vector<int64_t> sizes,
                         Parts parts, int64_t heads = 0) {
      all.push_back(
          {cat(meta, theirs, ".weight"), cat(hf, ours, ".weight"), std::move(sizes), parts, heads});
    };
    add("attention.wq", "self_attn.q_proj", {hidden, hidden}, Parts::kRows, shape.heads);
    add("attention.wk", "self_attn.k_proj", {kv, hidden}, Parts::kRows, shape.kv_heads);
    add("attention.wv", "self_attn.v_proj", {kv, hidden}, Parts::kRows);
    add("attention.wo", "self_attn.o_proj", {hidden, hidden}, Parts::kColumns);
    add("feed_forward.w1", "mlp.gate_proj", {inner, hidden}, Parts::kRows);
    add("feed_forward.w2", "mlp.down_proj", {hidden, inner}, Parts::kColumns);
    add("feed_forward.w3", "mlp.up_proj", {inner, hidden}, Parts::kRows);
    add("attention_norm", "input_layernorm", {hidden}, Parts::kCopies);
    add("ffn_norm", "post_attention_layernorm", {hidden}, Parts::kCopies);
  }
  return all;
}

namespace {

// Views the rows as [heads, x, y], swaps x and y.
at::Tensor regroup_rows(const at::Tensor& weight, int64_t heads, bool from_pairs) {
  if (weight.dim() != 2 || heads < 1 || weight.size(0) % (2 * heads) != 0) {
    fail_format("rotary rows", cat("a tensor of shape ", shape_text(weight.sizes()),
                                   " does not divide into ", heads, " heads of an even width"));
  }
  const int64_t half = weight.size(0) / heads / 2, columns = weight.size(1);
  const at::Tensor grouped = from_pairs ? weight.reshape({heads, half, 2, columns})
                                        : weight.reshape({heads, 2, half, columns});
  return grouped.transpose(1, 2).reshape({weight.size(0), columns});
}

}  // namespace

at::Tensor permute_hf_to_meta(const at::Tensor& weight, int64_t heads) {
  return regroup_rows(weight, heads, /*from_pairs=*/false);
}

at::Tensor permute_meta_to_hf(const at::Tensor& weight, int64_t heads) {
  return regroup_rows(weight, heads, /*from_pairs=*/true);
}

}  // namespace llama2zh
