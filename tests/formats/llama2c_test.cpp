// llama2.c's .bin: the real stories260K against its Hugging Face conversion, version 1, and headers
// that lie.
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include <cstring>

#include "formats/foreign_test_util.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/formats/meta.h"

namespace llama2zh::foreign_test {
namespace {

std::string ints(const std::vector<int32_t>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4);
}

std::string floats(int64_t count, float first = 0) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i);
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4);
}

TEST(Llama2c, Stories260KEqualsItsHuggingFaceForm) {
  const auto data = shared_data();
  if (data.empty()) GTEST_SKIP() << "no shared data folder (LLAMA2ZH_SHARED)";
  const auto ours = open_llama2c_checkpoint(data / "weights/stories260K.bin");
  const auto theirs = open_tensors(data / "weights/stories260K_hf");
  ASSERT_EQ(ours->tensors().size(), theirs->tensors().size());
  for (const TensorInfo& info : theirs->tensors()) {
    EXPECT_EQ(ours->require(info.name).shape, info.shape);
    EXPECT_TRUE(at::equal(ours->load(info.name), theirs->load(info.name))) << info.name;
  }
  const json wanted = read_json_file(data / "weights/stories260K_hf/config.json");
  for (const auto& [key, value] : wanted.items()) {
    ASSERT_TRUE(ours->config().contains(key)) << key;
    EXPECT_EQ(json(ours->config()[key]), value) << key;
  }
}

// dim 4, hidden 6, 2 layers, 2 heads, 1 kv head, vocab 3, 5 positions.
constexpr int64_t kHead = 3 * 4;                                       // output or tok_embeddings
constexpr int64_t kBody = 2 * (4 + 4 + 16 + 8 + 8 + 16 + 3 * 24) + 4;  // all layers and norm
constexpr int64_t kRope = 2 * 5 * 1;

std::string version1(uint8_t shared, int64_t count) {
  std::string file = "24ka" + ints({1, 4, 6, 2, 2, 1, 3, 5}) + static_cast<char>(shared);
  file.resize(256, '\0');
  return file + floats(count);
}

at::Tensor run(float first, std::vector<int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return at::arange(first, first + static_cast<float>(count), at::kFloat).reshape(shape);
}

TEST(Llama2c, Version1PlacesEachTensor) {
  TempFolder folder;
  write_text(folder / "m.bin", version1(0, kHead + kBody + kHead));
  const auto source = open_llama2c_checkpoint(folder / "m.bin");
  EXPECT_EQ(source->tensors().size(), 21u);
  EXPECT_EQ(source->config()["tie_word_embeddings"], false);
  EXPECT_EQ(source->config()["max_position_embeddings"], 5);
  const auto expect = [&](const std::string& name, const at::Tensor& wanted) {
    EXPECT_TRUE(at::equal(source->load(name), wanted)) << name;
  };
  // Offsets counted by hand from the order in llama2.c's export.py.
  expect("model.layers.0.input_layernorm.weight", run(0, {4}));
  expect("model.layers.1.input_layernorm.weight", run(4, {4}));
  expect("model.layers.0.post_attention_layernorm.weight", run(8, {4}));
  expect("model.norm.weight", run(16, {4}));
  expect("model.embed_tokens.weight", run(20, {3, 4}));
  // Heads of width 2 have one pair: nothing moves.
  expect("model.layers.0.self_attn.q_proj.weight", run(32, {4, 4}));
  expect("model.layers.1.self_attn.k_proj.weight", run(72, {2, 4}));
  expect("model.layers.0.self_attn.v_proj.weight", run(80, {2, 4}));
  expect("model.layers.0.self_attn.o_proj.weight", run(96, {4, 4}));
  expect("model.layers.0.mlp.gate_proj.weight", run(128, {6, 4}));
  expect("model.layers.0.mlp.down_proj.weight", run(176, {4, 6}));
  expect("model.layers.1.mlp.up_proj.weight", run(248, {6, 4}));
  expect("lm_head.weight", run(272, {3, 4}));
}

TEST(Llama2c, SharedAndOwnHead) {
  TempFolder folder;
  write_text(folder / "shared1.bin", version1(1, kHead + kBody));
  EXPECT_EQ(open_llama2c_checkpoint(folder / "shared1.bin")->config()["tie_word_embeddings"], true);
  write_text(folder / "v0.bin", ints({4, 6, 2, 2, 1, 3, 5}) + floats(kHead + kBody + kRope));
  EXPECT_FALSE(open_llama2c_checkpoint(folder / "v0.bin")->find("lm_head.weight"));
  write_text(folder / "own.bin",
             ints({4, 6, 2, 2, 1, -3, 5}) + floats(kHead + kBody + kRope + kHead));
  const auto own = open_llama2c_checkpoint(folder / "own.bin");
  EXPECT_EQ(own->config()["vocab_size"], 3);
  EXPECT_TRUE(at::equal(own->load("lm_head.weight"), run(kHead + kBody + kRope, {3, 4})));
}

TEST(Llama2c, HeadersThatLie) {
  TempFolder folder;
  const auto refuse = [&](const std::string& bytes, const std::string& problem) {
    write_text(folder / "bad.bin", bytes);
    expect_error(ErrorKind::kFormat, problem, [&] { open_llama2c_checkpoint(folder / "bad.bin"); });
  };
  const std::vector<int32_t> good{4, 6, 2, 2, 1, 3, 5};
  const std::string payload = floats(kHead + kBody + kRope);
  for (size_t field = 0; field < good.size(); ++field) {
    for (const int32_t value : {0, -1, INT32_MIN, INT32_MAX, 1 << 30}) {
      if (field == 5 && value == -1) continue;  // a vocabulary of one piece with its own head
      std::vector<int32_t> sizes = good;
      sizes[field] = value;
      refuse(ints(sizes) + payload, "expected");
    }
  }
  refuse(ints({4, 6, 2, 2, 1, -1, 5}) + payload, "its header asks for");
  refuse(ints({1 << 24, 1 << 24, 1000, 2, 1, 1 << 24, 1 << 24}) + payload, "asks for");
  refuse(ints({4, 6, 2, 4, 1, 3, 5}) + payload, "even width");
  refuse(ints({12, 6, 2, 3, 2, 3, 5}) + payload, "cannot share");
  const std::string whole = ints(good) + payload;
  for (const size_t size :
       {size_t{0}, size_t{4}, size_t{27}, size_t{28}, whole.size() / 2, whole.size() - 1}) {
    refuse(whole.substr(0, size), size < 28 ? "too few" : "truncated");
  }
  refuse(whole + "x", "its header asks for");
  refuse("24ka" + ints({2, 4, 6, 2, 2, 1, 3, 5}) + payload, "version 2");
  refuse(version1(1, kHead + kBody).substr(0, 255), "fewer than its header");
  refuse(version1(1, kHead + kBody - 1), "truncated");
  EXPECT_THROW(open_llama2c_checkpoint(folder / "absent.bin"), Error);
}

}  // namespace
}  // namespace llama2zh::foreign_test
