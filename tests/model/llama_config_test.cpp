#include "llama2zh/model/llama_config.h"

#include <cmath>
#include <functional>

#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::expect_error;

// LLaMA-2 7B's file as published (transformers 4).
ordered_json version4() {
  return parse_ordered_json(R"({
    "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
    "initializer_range": 0.02, "intermediate_size": 11008, "max_position_embeddings": 4096,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
    "tie_word_embeddings": false, "torch_dtype": "float16", "transformers_version": "4.31.0",
    "use_cache": true, "vocab_size": 32000})",
                            "v4");
}

TEST(LlamaConfig, ReadsVersion4) {
  const LlamaConfig config = LlamaConfig::parse(version4(), "config.json");
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.rope.theta, 10000);
  EXPECT_EQ(config.rope.type, "default");
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.dtype, "float16");
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.eos_token_id, std::vector<int64_t>{2});
  EXPECT_EQ(config.pad_token_id, std::nullopt);
  EXPECT_EQ(config.parameter_count(), 6'738'415'616);
  LlamaConfig grown = config;
  grown.vocab_size = 49953;
  EXPECT_EQ(grown.parameter_count() - config.parameter_count(), 147'070'976);
}

TEST(LlamaConfig, DefaultsAreTransformersOwn) {
  const LlamaConfig config =
      LlamaConfig::parse(ordered_json{{"model_type", "llama"}}, "config.json");
  EXPECT_EQ(config.vocab_size, 32000);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.dtype, "float32");
}

TEST(LlamaConfig, BothSpellingsOfLinearScaling) {
  ordered_json v4 = version4();
  v4["rope_theta"] = 50000.0;
  for (const char* key : {"type", "rope_type"}) {
    v4["rope_scaling"] = {{key, "linear"}, {"factor", 4.0}};
    const RopeConfig rope = LlamaConfig::parse(v4, "config.json").rope;
    EXPECT_EQ(rope.theta, 50000) << key;
    EXPECT_EQ(rope.type, "linear") << key;
    EXPECT_EQ(rope.factor, 4) << key;
  }
  ordered_json v5 = version4();
  v5.erase("rope_scaling");
  v5.erase("torch_dtype");
  v5["dtype"] = "bfloat16";
  v5["rope_parameters"] = {{"rope_type", "linear"}, {"rope_theta", 1e6}, {"factor", 2.0}};
  const LlamaConfig config = LlamaConfig::parse(v5, "config.json");
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.rope.factor, 2);
  EXPECT_EQ(config.dtype, "bfloat16");
}

TEST(LlamaConfig, WritesBothSpellingsAndKeepsUnknownKeys) {
  ordered_json v4 = version4();
  v4["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  v4["rope_theta"] = 50000.0;
  v4["eos_token_id"] = {2, 7};
  v4["my_key"] = {{"kept", true}};
  LlamaConfig config = LlamaConfig::parse(v4, "config.json");
  config.vocab_size = 49953;
  const ordered_json written = config.to_json();
  EXPECT_EQ(written["vocab_size"], 49953);
  EXPECT_EQ(written["my_key"], v4["my_key"]);
  EXPECT_EQ(written["_name_or_path"], v4["_name_or_path"]);
  EXPECT_EQ(written["torch_dtype"], "float16");
  EXPECT_EQ(written["dtype"], "float16");
  EXPECT_EQ(written["rope_theta"], 50000.0);
  EXPECT_EQ(written["rope_scaling"]["type"], "linear");
  EXPECT_EQ(written["rope_scaling"]["factor"], 4.0);
  EXPECT_EQ(written["rope_parameters"]["rope_type"], "linear");
  EXPECT_EQ(written["rope_parameters"]["rope_theta"], 50000.0);
  EXPECT_EQ(written["eos_token_id"], v4["eos_token_id"]);
  EXPECT_TRUE(written["pad_token_id"].is_null());
  EXPECT_EQ(LlamaConfig::parse(written, "again").to_json(), written);
}

TEST(LlamaConfig, OldUploadsNegativeIdsMeanNone) {
  ordered_json value = version4();
  value["pad_token_id"] = -1;
  value["eos_token_id"] = nullptr;
  const LlamaConfig config = LlamaConfig::parse(value, "config.json");
  EXPECT_EQ(config.pad_token_id, std::nullopt);
  EXPECT_TRUE(config.eos_token_id.empty());
}

struct Lie {
  const char* key;
  ordered_json value;
  const char* part;  // of the message
};

TEST(LlamaConfig, LiesAreFoundBeforeAnythingIsAllocated) {
  const std::vector<Lie> lies = {
      {"num_attention_heads", 0, "num_attention_heads is 0"},
      {"num_key_value_heads", 0, "num_key_value_heads is 0"},
      {"num_key_value_heads", 5, "does not divide"},
      {"hidden_size", 4100, "not a multiple of num_attention_heads, which is 32"},
      {"hidden_size", -1, "hidden_size is -1"},
      {"vocab_size", 2147483648, "vocab_size is 2147483648"},
      {"vocab_size", 18446744073709551615u, "vocab_size"},
      {"vocab_size", "32000", "expected an integer"},
      {"vocab_size", 1.5, "expected an integer"},
      {"num_hidden_layers", 1000000000, "num_hidden_layers is 1000000000"},
      {"head_dim", 7, "even"},
      {"rope_theta", 0, "rope_theta is 0"},
      {"rope_theta", std::nan(""), "rope_theta"},
      {"rope_theta", -1e4, "rope_theta"},
      {"rms_norm_eps", std::nan(""), "rms_norm_eps"},
      {"rms_norm_eps", 0, "rms_norm_eps"},
      {"rms_norm_eps", "x", "rms_norm_eps"},
      {"model_type", "mistral", "expected \"llama\""},
      {"architectures", {"GPT2LMHeadModel"}, "LlamaForCausalLM"},
      {"architectures", 3, "list of texts"},
      {"hidden_act", "gelu", "silu"},
      {"attention_bias", true, "biases"},
      {"mlp_bias", true, "biases"},
      {"torch_dtype", "float64", "float32, float16 or bfloat16"},
      {"rope_scaling", {{"type", "longrope"}, {"factor", 2}}, "rope_scaling.type is \"longrope\""},
      {"rope_scaling", {{"rope_type", "linear"}}, "needs a factor"},
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}, "factor is 0"},
      {"rope_scaling", 2, "JSON object"},
      {"quantization_config", {{"bits", 4}}, "quantized"},
      {"tie_word_embeddings", "no", "true or false"},
      {"eos_token_id", "two", "token id"}};
  for (const Lie& lie : lies) {
    ordered_json value = version4();
    value[lie.key] = lie.value;
    SCOPED_TRACE(lie.key);
    expect_error(ErrorKind::kFormat, lie.part, [&] { LlamaConfig::parse(value, "config.json"); });
    expect_error(ErrorKind::kFormat, "config.json",
                 [&] { LlamaConfig::parse(value, "config.json"); });
  }
  expect_error(ErrorKind::kFormat, "JSON object",
               [] { LlamaConfig::parse(ordered_json::array(), "config.json"); });
  expect_error(ErrorKind::kFormat, "neither model_type nor architectures",
               [] { LlamaConfig::parse(ordered_json::object(), "config.json"); });
}

}  // namespace
}  // namespace llama2zh
