// A llama GGUF as a Hugging Face checkpoint. Keys: docs/gguf.md of ggml, "LLM"; llama.cpp's
// llama-arch.cpp.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "gguf_names.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/gguf.h"
#include "llama2zh/model/load.h"
#include "rope_config.h"

namespace llama2zh {
namespace {

constexpr int64_t kLargest = int64_t{1} << 31;  // LlamaConfig::parse has the narrower bounds

// The shortest decimal that rounds to the float32 in the file: 1e-05, not 9.999999747378752e-06.
double shortest(double value) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(value)).ptr;
  double result = 0;
  std::from_chars(text, end, result);
  return result;
}

void check_gguf_architecture(const GgufMetadata& data) {
  const std::string architecture = data.text("general.architecture");
  if (architecture != "llama") {
    data.fail("general.architecture", "expected \"llama\"", "only LLaMA models are supported");
  }
  if (data.integer("split.count", 0, kLargest, 1) > 1) {
    data.fail("split.count", "it is one part of a split file, expected a whole one",
              "join the parts with llama.cpp's llama-gguf-split --merge");
  }
  if (data.integer("llama.expert_count", 0, kLargest, 0) != 0) {
    data.fail("llama.expert_count", "expected none: mixtures of experts are not supported");
  }
}

// llama.rope.scaling.*, and its old form llama.rope.scale_linear.
RopeConfig read_scaling_keys(const GgufMetadata& data, double theta, int64_t positions) {
  RopeConfig rope;
  rope.theta = theta;
  const double linear = data.number("llama.rope.scale_linear", 1);
  rope.type = data.text("llama.rope.scaling.type", linear != 1 ? "linear" : "none");
  if (rope.type == "none") {
    rope.type = "default";
    return rope;
  }
  if (rope.type != "linear" && rope.type != "yarn") {
    data.fail("llama.rope.scaling.type", "expected none, linear or yarn");
  }
  rope.factor = shortest(data.number("llama.rope.scaling.factor", linear));
  if (rope.type == "linear") return rope;
  rope.original_max_position_embeddings =
      data.integer("llama.rope.scaling.original_context_length", 1, kLargest, positions);
  rope.beta_fast = shortest(data.number("llama.rope.scaling.yarn_beta_fast", rope.beta_fast));
  rope.beta_slow = shortest(data.number("llama.rope.scaling.yarn_beta_slow", rope.beta_slow));
  for (const char* key : {"llama.rope.scaling.attn_factor", "llama.rope.scaling.yarn_attn_factor",
                          "llama.rope.scaling.yarn_ext_factor"}) {
    if (data.number(key, 1) != 1) data.fail(key, "expected 1: config.json has no such setting");
  }
  if (data.number("llama.rope.scaling.yarn_log_multiplier", 0) != 0) {
    data.fail("llama.rope.scaling.yarn_log_multiplier", "expected 0");
  }
  return rope;
}

RopeConfig read_gguf_rope(const GgufFile& file, int64_t head_dim, int64_t positions) {
  const GgufMetadata& data = file.metadata();
  if (data.integer("llama.rope.dimension_count", 0, kLargest, head_dim) != head_dim) {
    data.fail("llama.rope.dimension_count",
              cat("expected ", head_dim,
                  ", the width of a head: partial rotary embedding is not "
                  "supported"));
  }
  const double theta = shortest(data.number("llama.rope.freq_base", 10000));
  RopeConfig keys = read_scaling_keys(data, theta, positions);
  if (file.find(kRopeFreqsName) == nullptr) return keys;
  const std::string where = cat(file.describe(), ": tensor ", kRopeFreqsName);
  const at::Tensor tensor = file.load(kRopeFreqsName).to(at::kFloat).contiguous();
  if (tensor.dim() != 1 || tensor.numel() != head_dim / 2 || head_dim < 2) {
    fail_format(where, cat("it has shape ", tensor.sizes(), ", expected [", head_dim / 2, "]"));
  }
  const auto* const values = tensor.const_data_ptr<float>();
  const auto found = llama3_scaling_of(std::vector<float>(values, values + tensor.numel()), theta);
  if (!found || (found->type != "default" && keys.type != "default")) {
    fail_format(where,
                found ? cat("it holds ", found->type, " scaling, the keys say ", keys.type)
                      : std::string("its divisors are not those of llama3 scaling"),
                "config.json can't express this rotary embedding");
  }
  return found->type == "default" ? keys : *found;
}

// Where an instruction-tuned model ends its turns apart from its texts, both end an answer.
void put_special_ids(const GgufMetadata& data, int64_t vocabulary, ordered_json& config) {
  const auto id = [&](const char* name) {
    return data.integer(cat("tokenizer.ggml.", name, "_token_id"), 0, vocabulary - 1, -1);
  };
  const int64_t bos = id("bos"), eos = id("eos"), eot = id("eot"), pad = id("padding");
  config["bos_token_id"] = bos < 0 ? ordered_json(nullptr) : ordered_json(bos);
  config["eos_token_id"] = nullptr;
  if (eos >= 0) config["eos_token_id"] = eos;
  if (eos >= 0 && eot >= 0 && eot != eos) config["eos_token_id"] = {eos, eot};
  config["pad_token_id"] = pad < 0 ? ordered_json(nullptr) : ordered_json(pad);
}

std::string gguf_dtype(const GgufFile& file) {
  const GgmlType type = file.tensor("token_embd.weight").type;
  if (type == GgmlType::kF32) return "float32";
  return type == GgmlType::kBF16 ? "bfloat16" : "float16";
}

ordered_json read_gguf_config(const GgufFile& file) {
  const GgufMetadata& data = file.metadata();
  check_gguf_architecture(data);
  const auto size = [&](const char* key) { return data.integer(cat("llama.", key), 1, kLargest); };
  const int64_t hidden = size("embedding_length"), heads = size("attention.head_count");
  const int64_t head_dim =
      data.integer("llama.attention.key_length", 1, kLargest, std::max<int64_t>(hidden / heads, 1));
  if (data.integer("llama.attention.value_length", 1, kLargest, head_dim) != head_dim) {
    data.fail("llama.attention.value_length", cat("expected ", head_dim, ", as key_length"));
  }
  const TensorInfo& embedding = file.require("token_embd.weight");
  const int64_t vocabulary = embedding.shape.empty() ? 0 : embedding.shape.front();
  ordered_json config = {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}};
  config["vocab_size"] = vocabulary;
  config["hidden_size"] = hidden;
  config["intermediate_size"] = size("feed_forward_length");
  config["num_hidden_layers"] = size("block_count");
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = data.integer("llama.attention.head_count_kv", 1, kLargest, heads);
  config["head_dim"] = head_dim;
  config["max_position_embeddings"] = size("context_length");
  config["rms_norm_eps"] = shortest(data.number("llama.attention.layer_norm_rms_epsilon"));
  config["tie_word_embeddings"] = file.find("output.weight") == nullptr;
  config["dtype"] = gguf_dtype(file);
  put_special_ids(data, vocabulary, config);
  config["rope_parameters"] = rope_to_json(read_gguf_rope(file, head_dim, size("context_length")));
  return config;
}

class GgufCheckpoint final : public ForeignCheckpoint {
 public:
  explicit GgufCheckpoint(const std::filesystem::path& path)
      : file_(GgufFile::open(path)), config_(read_gguf_config(*file_)) {
    for (TensorInfo info : file_->tensors()) {
      // Computed from keys, or read with them.
      if (info.name == kRopeFreqsName || info.name.ends_with(".attn_rot_embd.weight")) continue;
      std::string stored = info.name;
      info.name = hf_name_of(stored).value_or(stored);
      stored_names_[info.name] = std::move(stored);
      infos_.push_back(std::move(info));
    }
    std::sort(infos_.begin(), infos_.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::string describe() const override { return file_->describe(); }
  const ordered_json& config() const override { return config_; }

  at::Tensor load(std::string_view name) const override {
    at::Tensor stored = file_->load(stored_names_.find(require(name).name)->second);
    const RotaryRows rows = rotary_rows_of(name);
    if (rows == RotaryRows::kNo) return stored;
    const char* const key =
        rows == RotaryRows::kQuery ? "num_attention_heads" : "num_key_value_heads";
    return permute_meta_to_hf(stored, config_[key].get<int64_t>());
  }

 private:
  std::unique_ptr<GgufFile> file_;
  ordered_json config_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, std::string, std::less<>> stored_names_;
};

}  // namespace

std::unique_ptr<ForeignCheckpoint> open_gguf_checkpoint(const std::filesystem::path& file) {
  return std::make_unique<GgufCheckpoint>(file);
}

bool has_quantized_tensors(const GgufFile& file) {
  return std::any_of(file.tensors().begin(), file.tensors().end(), [&](const TensorInfo& info) {
    return ggml_is_quantized(file.tensor(info.name).type);
  });
}

}  // namespace llama2zh
