// A GGUF file as a checkpoint: names, rotary scaling in both directions, and metadata that lies.
#include "llama2zh/model/gguf.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include "model/gguf_names.h"
#include "model/gguf_vocabulary.h"
#include "model_test_util.h"

namespace llama2zh {
namespace {

// Runs `call`, which must throw a kFormat error that says every one of `parts`.
template <typename Call, typename... Parts>
void expect_format_error(Call call, const Parts&... parts) {
  try {
    call();
    ADD_FAILURE() << "no error was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFormat) << error.what();
    for (const std::string& part : {std::string(parts)...}) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << part << " in: " << error.what();
    }
  }
}

TEST(GgufNames, EveryWeightThereAndBack) {
  for (const TensorInfo& info : expected_tensors(testing::small_config(), at::kFloat)) {
    const auto name = gguf_name_of(info.name);
    ASSERT_TRUE(name) << info.name;
    EXPECT_EQ(hf_name_of(*name), info.name);
  }
  EXPECT_EQ(gguf_name_of("model.layers.11.self_attn.o_proj.weight"), "blk.11.attn_output.weight");
  for (const char* name : {"blk.1.attn_q.bias", "blk.01.attn_q.weight", "blk.-1.attn_q.weight",
                           "blk..attn_q.weight", "blk.1attn_q.weight", "blk.1", "rope_freqs.weight",
                           "blk.99999999999999999999.attn_q.weight"}) {
    EXPECT_FALSE(hf_name_of(name)) << name;
  }
}

TEST(GgufRope, Llama3ScalingIsFoundInItsDivisors) {
  RopeConfig rope{
      .theta = 500000, .type = "llama3", .factor = 32, .original_max_position_embeddings = 8192};
  for (const int64_t head_dim : {64, 128}) {
    const auto found = llama3_scaling_of(llama3_frequency_divisors(rope, head_dim), rope.theta);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->type, "llama3");
    EXPECT_EQ(found->factor, 32);
    EXPECT_EQ(found->low_freq_factor, 1);
    EXPECT_EQ(found->high_freq_factor, 4);
  }
  rope.original_max_position_embeddings = 4096;
  rope.low_freq_factor = 1.5;
  rope.high_freq_factor = 6;
  const auto divisors = llama3_frequency_divisors(rope, 128);
  const auto found = llama3_scaling_of(divisors, rope.theta);
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->low_freq_factor, 3, 1e-2);  // of 8192 positions
  EXPECT_NEAR(found->high_freq_factor, 12, 4e-2);
  EXPECT_EQ(llama3_scaling_of(std::vector<float>(32, 1), 10000)->type, "default");
  EXPECT_EQ(llama3_scaling_of(std::vector<float>(32, 4), 10000)->type, "linear");
  std::vector<float> odd = divisors;
  odd[20] *= 1.5F;
  EXPECT_FALSE(llama3_scaling_of(odd, rope.theta));
  EXPECT_FALSE(llama3_scaling_of(std::vector<float>(32, -1), 10000));
}

class GgufCheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const auto& [key, value] :
         {std::pair("context_length", 64), std::pair("embedding_length", 32),
          std::pair("block_count", 1), std::pair("feed_forward_length", 48),
          std::pair("attention.head_count", 4), std::pair("attention.head_count_kv", 2)}) {
      data_.set(std::string("llama.") + key, GgufValue::uint32(static_cast<uint32_t>(value)));
    }
    data_.set("general.architecture", GgufValue::text("llama"));
    data_.set("llama.attention.layer_norm_rms_epsilon", GgufValue::float32(1e-5F));
    config_.num_hidden_layers = 1;
    for (const TensorInfo& info : expected_tensors(config_, at::kFloat)) {
      tensors_.push_back({gguf_name_of(info.name).value(), info.shape, GgmlType::kF32});
    }
  }

  std::filesystem::path write() {
    GgufWriter writer(folder_.path() / "m.gguf", data_, tensors_);
    for (const GgufTensor& tensor : tensors_) {
      writer.add(tensor.name, tensor.name == kRopeFreqsName ? divisors_ : at::ones(tensor.shape));
    }
    writer.finish();
    return folder_.path() / "m.gguf";
  }
  LlamaConfig open() { return open_model(write()).config; }
  template <typename... Parts>
  void refuse(const char* key, const GgufValue& value, const Parts&... parts) {
    const GgufMetadata before = data_;
    data_.set(key, value);
    expect_format_error([&] { open(); }, key, parts...);
    data_ = before;
  }

  testing::TemporaryFolder folder_;
  GgufMetadata data_;
  LlamaConfig config_ = testing::small_config();
  std::vector<GgufTensor> tensors_;
  at::Tensor divisors_;
};

TEST_F(GgufCheckpointTest, KeysBecomeConfigJson) {
  data_.set("llama.rope.freq_base", GgufValue::float32(1e6F));
  data_.set("tokenizer.ggml.bos_token_id", GgufValue::uint32(3));
  data_.set("tokenizer.ggml.eos_token_id", GgufValue::uint32(4));
  data_.set("tokenizer.ggml.eot_token_id", GgufValue::uint32(5));
  const LlamaConfig config = open();
  EXPECT_EQ(config.vocab_size, 97);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.num_key_value_heads, 2);
  EXPECT_EQ(config.rms_norm_eps, 1e-5);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.bos_token_id, 3);
  EXPECT_EQ(config.eos_token_id, (std::vector<int64_t>{4, 5}));
  EXPECT_FALSE(config.pad_token_id);
  EXPECT_FALSE(config.tie_word_embeddings);
  tensors_.pop_back();
  EXPECT_TRUE(open().tie_word_embeddings);
}

TEST_F(GgufCheckpointTest, RotaryScaling) {
  data_.set("llama.rope.scaling.type", GgufValue::text("yarn"));
  data_.set("llama.rope.scaling.factor", GgufValue::float32(4));
  data_.set("llama.rope.scaling.original_context_length", GgufValue::uint32(16));
  RopeConfig rope = open().rope;
  EXPECT_EQ(rope.type, "yarn");
  EXPECT_EQ(rope.factor, 4);
  EXPECT_EQ(rope.original_max_position_embeddings, 16);
  data_.set("llama.rope.scaling.type", GgufValue::text("linear"));
  EXPECT_EQ(open().rope.type, "linear");
  data_.set("llama.rope.scaling.type", GgufValue::text("none"));
  EXPECT_EQ(open().rope.type, "default");
  data_.set("llama.rope.freq_base", GgufValue::float32(500000));
  rope = {.theta = 500000, .type = "llama3", .factor = 8, .original_max_position_embeddings = 8192};
  divisors_ = at::tensor(at::ArrayRef<float>(llama3_frequency_divisors(rope, 8)));
  tensors_.push_back({kRopeFreqsName, {4}, GgmlType::kF32});
  EXPECT_EQ(open().rope.type, "llama3");
  EXPECT_EQ(open().rope.factor, 8);
  divisors_ = at::tensor({1.0F, 3.0F, 2.0F, 8.0F});
  expect_format_error([&] { open(); }, kRopeFreqsName, "llama3");
}

TEST_F(GgufCheckpointTest, MetadataThatLies) {
  refuse("general.architecture", GgufValue::text("qwen2"), "\"qwen2\"", "expected \"llama\"");
  refuse("general.architecture", GgufValue::uint32(1), "expected a text");
  refuse("split.count", GgufValue::uint32(3), "llama-gguf-split --merge");
  refuse("llama.expert_count", GgufValue::uint32(8), "experts");
  refuse("llama.attention.head_count", GgufValue::int32s({4}), "array of 1 int32");
  refuse("llama.attention.head_count", GgufValue::uint32(0), "from 1");
  refuse("llama.rope.dimension_count", GgufValue::uint32(4), "partial rotary");
  refuse("llama.attention.value_length", GgufValue::uint32(16), "as key_length");
  refuse("llama.rope.scaling.type", GgufValue::text("longrope"), "none, linear or yarn");
  refuse("tokenizer.ggml.bos_token_id", GgufValue::uint32(97), "from 0 to 96");
  refuse("llama.block_count", GgufValue::float32(1), "expected a whole number");
  data_.set("llama.block_count", GgufValue::uint32(2));
  expect_format_error([&] { open(); }, "model.layers.1", "missing");
  data_.set("llama.block_count", GgufValue::uint32(1));
  tensors_.push_back({"blk.0.attn_q.bias", {32}, GgmlType::kF32});
  expect_format_error([&] { open(); }, "blk.0.attn_q.bias");
}

class GgufTokenizerTest : public GgufCheckpointTest {
 protected:
  void put(const char* model, std::vector<std::string> tokens, const std::vector<int32_t>& types) {
    tokens.resize(97, "");
    std::vector<int32_t> all = types;
    all.resize(97, 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].empty()) tokens[i] = "t" + std::to_string(i);
    }
    data_.set("tokenizer.ggml.model", GgufValue::text(model));
    data_.set("tokenizer.ggml.tokens", GgufValue::texts(tokens));
    data_.set("tokenizer.ggml.token_type", GgufValue::int32s(all));
    data_.set("tokenizer.ggml.scores", GgufValue::float32s(std::vector<float>(97, -1)));
    data_.set("tokenizer.ggml.bos_token_id", GgufValue::uint32(1));
    data_.set("tokenizer.ggml.eos_token_id", GgufValue::uint32(2));
  }
  TokenizerFiles unpack() { return gguf_tokenizer_files(*GgufFile::open(write()), note_); }
  // The symbols of printable ASCII, two special tokens at the front.
  static std::vector<std::string> byte_level_tokens() {
    std::vector<std::string> tokens = {"<|endoftext|>", "ab", "\u0120"};
    for (char c = '!'; c <= '~'; ++c) tokens.emplace_back(1, c);
    return tokens;
  }
  std::string note_;
};

TEST_F(GgufTokenizerTest, SentencepieceWithTokensOfItsOwn) {
  put("llama", {"<unk>", "<s>", "</s>", "<|im_start|>", "two  spaces", "\u2581a"},
      {2, 3, 3, 3, 4, 1});
  data_.set("tokenizer.ggml.add_bos_token", GgufValue::boolean(false));
  data_.set("tokenizer.ggml.padding_token_id", GgufValue::uint32(2));
  data_.set("tokenizer.chat_template", GgufValue::text("{{ x }}"));
  const Tokenizer tokenizer = load_tokenizer(write());
  EXPECT_EQ(note_, "");
  EXPECT_EQ(tokenizer.vocab_size(), 97);
  EXPECT_EQ(tokenizer.piece(4), "two\u2581\u2581spaces");
  EXPECT_EQ(tokenizer.pad_id(), 2);
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_TRUE(tokenizer.is_special(3));
  EXPECT_EQ(tokenizer.hf_chat_template(), "{{ x }}");
  GgufMetadata again;
  put_gguf_vocabulary(tokenizer, again);
  EXPECT_EQ(again.texts("tokenizer.ggml.tokens"), data_.texts("tokenizer.ggml.tokens"));
  EXPECT_EQ(again.integers("tokenizer.ggml.token_type", 1, 6),
            data_.integers("tokenizer.ggml.token_type", 1, 6));
  EXPECT_EQ(again.text("tokenizer.chat_template"), "{{ x }}");
  EXPECT_FALSE(again.flag("tokenizer.ggml.add_bos_token", true));
}

TEST_F(GgufTokenizerTest, ByteLevelBpe) {
  put("gpt2", byte_level_tokens(), {3});
  data_.set("tokenizer.ggml.bos_token_id", GgufValue::uint32(0));
  data_.set("tokenizer.ggml.eos_token_id", GgufValue::uint32(0));
  data_.set("tokenizer.ggml.merges", GgufValue::texts({"a b"}));
  data_.set("tokenizer.chat_template", GgufValue::text("{{ x }}"));
  for (const char* cut : {"gpt-2", "smollm", "llama-bpe", "qwen2", "default"}) {
    data_.set("tokenizer.ggml.pre", GgufValue::text(cut));
    const Tokenizer tokenizer = load_tokenizer(write());
    EXPECT_EQ(tokenizer.vocab_size(), 97);
    EXPECT_EQ(tokenizer.encode("ab a"), (std::vector<TokenId>{1, 2, *tokenizer.id_of("a")})) << cut;
    EXPECT_EQ(tokenizer.encode_with_specials("<|endoftext|>"), std::vector<TokenId>{0});
    EXPECT_EQ(tokenizer.hf_chat_template(), "{{ x }}");
    GgufMetadata again;
    put_gguf_vocabulary(tokenizer, again);
    for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"})
      EXPECT_EQ(again.texts(key), data_.texts(key));
    EXPECT_EQ(again.integers("tokenizer.ggml.token_type", 1, 6),
              data_.integers("tokenizer.ggml.token_type", 1, 6));
    EXPECT_EQ(again.text("tokenizer.ggml.pre"), cut);
    EXPECT_EQ(again.text("tokenizer.ggml.model"), "gpt2");
    EXPECT_FALSE(again.flag("tokenizer.ggml.add_bos_token", true));
  }
  EXPECT_EQ(unpack().contents.size(), 2U);
  data_.set("tokenizer.ggml.pre", GgufValue::text("something"));
  EXPECT_TRUE(unpack().contents.empty());
  expect_format_error([&] { load_tokenizer(write()); }, "\"something\", expected one of gpt-2",
                      "--tokenizer");
  data_.set("tokenizer.ggml.pre", GgufValue::text("gpt-2"));
  data_.set("tokenizer.ggml.merges", GgufValue::texts({"a"}));
  expect_format_error([&] { unpack(); }, "merges", "element 0");
  data_.set("tokenizer.ggml.merges", GgufValue::texts({"a c"}));
  expect_format_error([&] { load_tokenizer(write()); }, "\"ac\" is no token");
}

TEST_F(GgufTokenizerTest, WordCutsWithoutANameAreRefused) {
  put("gpt2", byte_level_tokens(), {3});
  data_.set("tokenizer.ggml.bos_token_id", GgufValue::uint32(0));
  data_.set("tokenizer.ggml.eos_token_id", GgufValue::uint32(0));
  data_.set("tokenizer.ggml.merges", GgufValue::texts({"a b"}));
  data_.set("tokenizer.ggml.pre", GgufValue::text("smollm"));
  TokenizerFiles files = unpack();
  json whole = json::parse(files.contents["tokenizer.json"]);
  whole["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = false;
  files.contents["tokenizer.json"] = whole.dump();
  const Tokenizer tokenizer = Tokenizer::from_files(files);
  GgufMetadata data;
  try {
    put_gguf_vocabulary(tokenizer, data);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(error.what()).find("no name in GGUF"), std::string::npos) << error.what();
  }
}

TEST_F(GgufTokenizerTest, OtherKindsAreNamed) {
  put("bert", {"<unk>", "<s>", "</s>"}, {2, 3, 3});
  EXPECT_TRUE(unpack().contents.empty());
  EXPECT_NE(note_.find("\"bert\", expected llama or gpt2"), std::string::npos);
  data_.set("tokenizer.ggml.model", GgufValue::text("none"));
  expect_format_error([&] { load_tokenizer(write()); }, "holds no tokenizer", "--tokenizer");
}

TEST_F(GgufTokenizerTest, ArraysThatDoNotBelongTogether) {
  put("llama", {"<unk>", "<s>", "</s>"}, {2, 3, 3});
  const GgufMetadata good = data_;
  const auto refuse_tokens = [&](const char* key, const GgufValue& value, const char* part) {
    data_ = good;
    data_.set(key, value);
    expect_format_error([&] { unpack(); }, key, part);
  };
  refuse_tokens("tokenizer.ggml.tokens", GgufValue::texts({"a"}), "expected 97 of them");
  refuse_tokens("tokenizer.ggml.scores", GgufValue::float32s({1}), "one for each of 97");
  refuse_tokens("tokenizer.ggml.token_type", GgufValue::int32s({1}), "one for each of 97");
  refuse_tokens("tokenizer.ggml.token_type", GgufValue::int32s(std::vector<int32_t>(97, 7)),
                "from 1 to 6");
  std::vector<std::string> twice(97, "same");
  refuse_tokens("tokenizer.ggml.tokens", GgufValue::texts(twice), "twice");
  refuse_tokens("tokenizer.ggml.eos_token_id", GgufValue::uint32(97), "from 0 to 96");
}

}  // namespace
}  // namespace llama2zh
