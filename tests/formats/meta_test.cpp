// Meta's layout: the row order of Q and K, params.json, folders of one to eight parts in and out.
// The folders are cut by this file's own index arithmetic, not by the code under test.
#include "llama2zh/formats/meta.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "formats/foreign_test_util.h"
#include "formats/meta_params.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh::foreign_test {
namespace {

constexpr int64_t kHidden = 128, kInner = 344, kHeads = 16, kKvHeads = 8, kVocab = 40, kLayers = 2;
// Heads of eight: with four, the two row orders would be each other's inverse and their own.
constexpr int64_t kHeadDim = kHidden / kHeads;

ordered_json hf_config(bool tied = false) {
  return {{"model_type", "llama"},         {"hidden_size", kHidden},
          {"intermediate_size", kInner},   {"num_hidden_layers", kLayers},
          {"num_attention_heads", kHeads}, {"num_key_value_heads", kKvHeads},
          {"vocab_size", kVocab},          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", tied},   {"max_position_embeddings", 4096}};
}

std::map<std::string, at::Tensor> hf_tensors(at::ScalarType dtype = at::kFloat) {
  std::map<std::string, at::Tensor> all;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    all[name] = at::randn(shape).to(dtype);
  };
  add("model.embed_tokens.weight", {kVocab, kHidden});
  add("lm_head.weight", {kVocab, kHidden});
  add("model.norm.weight", {kHidden});
  for (int64_t n = 0; n < kLayers; ++n) {
    const std::string layer = "model.layers." + std::to_string(n) + ".";
    add(layer + "self_attn.q_proj.weight", {kHidden, kHidden});
    add(layer + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
    add(layer + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
    add(layer + "self_attn.o_proj.weight", {kHidden, kHidden});
    add(layer + "mlp.gate_proj.weight", {kInner, kHidden});
    add(layer + "mlp.up_proj.weight", {kInner, kHidden});
    add(layer + "mlp.down_proj.weight", {kHidden, kInner});
    add(layer + "input_layernorm.weight", {kHidden});
    add(layer + "post_attention_layernorm.weight", {kHidden});
  }
  return all;
}

// Row 2i + j of a head in Meta's order is row j * d/2 + i of the same head in Hugging Face's.
at::Tensor interleave(const at::Tensor& weight) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < weight.size(0); ++row) {
    const int64_t head = row / kHeadDim, within = row % kHeadDim;
    rows.push_back(head * kHeadDim + (within % 2) * (kHeadDim / 2) + within / 2);
  }
  return at::index_select(weight, 0, at::tensor(rows, at::kLong));
}

struct Cut {
  std::string meta;
  at::Tensor whole;
  int dim;  // -1: a copy in each part
};

std::vector<Cut> meta_cuts(const std::map<std::string, at::Tensor>& hf) {
  std::vector<Cut> cuts{{"tok_embeddings.weight", hf.at("model.embed_tokens.weight"), 1},
                        {"output.weight", hf.at("lm_head.weight"), 0},
                        {"norm.weight", hf.at("model.norm.weight"), -1}};
  for (int64_t n = 0; n < kLayers; ++n) {
    const std::string from = "model.layers." + std::to_string(n) + ".";
    const std::string to = "layers." + std::to_string(n) + ".";
    const auto get = [&](const char* name) { return hf.at(from + name + ".weight"); };
    cuts.push_back({to + "attention.wq.weight", interleave(get("self_attn.q_proj")), 0});
    cuts.push_back({to + "attention.wk.weight", interleave(get("self_attn.k_proj")), 0});
    cuts.push_back({to + "attention.wv.weight", get("self_attn.v_proj"), 0});
    cuts.push_back({to + "attention.wo.weight", get("self_attn.o_proj"), 1});
    cuts.push_back({to + "feed_forward.w1.weight", get("mlp.gate_proj"), 0});
    cuts.push_back({to + "feed_forward.w2.weight", get("mlp.down_proj"), 1});
    cuts.push_back({to + "feed_forward.w3.weight", get("mlp.up_proj"), 0});
    cuts.push_back({to + "attention_norm.weight", get("input_layernorm"), -1});
    cuts.push_back({to + "ffn_norm.weight", get("post_attention_layernorm"), -1});
  }
  return cuts;
}

using Named = std::vector<std::pair<std::string, at::Tensor>>;

Named meta_part(const std::vector<Cut>& cuts, int part, int parts) {
  Named tensors;
  for (const Cut& cut : cuts) {
    tensors.emplace_back(cut.meta, cut.dim < 0 ? cut.whole : cut.whole.chunk(parts, cut.dim)[part]);
  }
  tensors.emplace_back("rope.freqs", at::ones({kHeadDim / 2}));
  return tensors;
}

std::string part_file(int part) { return "consolidated.0" + std::to_string(part) + ".pth"; }

constexpr const char* kParams =
    R"({"dim": 128, "n_layers": 2, "n_heads": 16, "n_kv_heads": 8, "multiple_of": 8,
        "norm_eps": 1e-05, "vocab_size": -1})";

void write_folder(const TempFolder& folder, const std::map<std::string, at::Tensor>& hf, int parts,
                  const std::string& params = kParams) {
  const std::vector<Cut> cuts = meta_cuts(hf);
  for (int part = 0; part < parts; ++part) {
    write_torch_zip(folder / part_file(part), meta_part(cuts, part, parts));
  }
  write_text(folder / "params.json", params);
}

void expect_same(const TensorSource& source, const std::map<std::string, at::Tensor>& wanted) {
  ASSERT_EQ(source.tensors().size(), wanted.size());
  for (const auto& [name, tensor] : wanted) {
    const TensorInfo& info = source.require(name);
    EXPECT_EQ(info.shape, tensor.sizes().vec()) << name;
    EXPECT_EQ(info.dtype, tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(source.load(name), tensor)) << name;
  }
}

std::vector<float> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

TEST(RotaryRows, ReferenceVectors) {
  const at::Tensor rows = at::arange(8, at::kFloat).view({8, 1});
  using Values = std::vector<float>;
  EXPECT_EQ(values(permute_meta_to_hf(rows, 1)), (Values{0, 2, 4, 6, 1, 3, 5, 7}));
  EXPECT_EQ(values(permute_meta_to_hf(rows, 2)), (Values{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(values(permute_hf_to_meta(rows, 1)), (Values{0, 4, 1, 5, 2, 6, 3, 7}));
  EXPECT_EQ(values(permute_hf_to_meta(rows, 2)), (Values{0, 2, 1, 3, 4, 6, 5, 7}));
}

TEST(RotaryRows, AreInversesForAnyHeads) {
  for (const int64_t heads : {1, 2, 3, 8}) {
    for (const int64_t width : {2, 4, 6, 128}) {
      const at::Tensor weight = at::randn({heads * width, 5});
      EXPECT_TRUE(at::equal(permute_meta_to_hf(permute_hf_to_meta(weight, heads), heads), weight));
      EXPECT_TRUE(at::equal(permute_hf_to_meta(permute_meta_to_hf(weight, heads), heads), weight));
    }
  }
}

// The reason for it all: neighbours rotated after Meta's projection and halves rotated after ours
// give the same scores between a query and a key.
TEST(RotaryRows, KeepAttentionScores) {
  const int64_t half = 4;
  const at::Tensor meta_q = at::randn({2 * half, 3}), meta_k = at::randn({2 * half, 3});
  const at::Tensor x = at::randn({3}), y = at::randn({3});
  const auto rotate = [&](const at::Tensor& even, const at::Tensor& odd, double position) {
    const at::Tensor angle = at::arange(1, half + 1, at::kFloat) * (0.37 * position);
    return at::cat({even * at::cos(angle) - odd * at::sin(angle),
                    odd * at::cos(angle) + even * at::sin(angle)});
  };
  const auto meta_side = [&](const at::Tensor& w, const at::Tensor& in, double position) {
    const at::Tensor pairs = w.matmul(in).view({half, 2});
    return rotate(pairs.select(1, 0), pairs.select(1, 1), position);
  };
  const auto hf_side = [&](const at::Tensor& w, const at::Tensor& in, double position) {
    const at::Tensor out = permute_meta_to_hf(w, 1).matmul(in);
    return rotate(out.narrow(0, 0, half), out.narrow(0, half, half), position);
  };
  const double meta = meta_side(meta_q, x, 5).dot(meta_side(meta_k, y, 2)).item<double>();
  const double ours = hf_side(meta_q, x, 5).dot(hf_side(meta_k, y, 2)).item<double>();
  EXPECT_NEAR(meta, ours, 1e-5);
}

TEST(RotaryRows, RefuseUnevenHeads) {
  expect_error(ErrorKind::kFormat, "does not divide", [] {
    permute_hf_to_meta(at::zeros({6, 2}), 2);
  });
  expect_error(ErrorKind::kFormat, "does not divide",
               [] { permute_meta_to_hf(at::zeros({6}), 3); });
}

TEST(MetaParams, IntermediateSizesOfMetasModels) {
  EXPECT_EQ(meta_intermediate_size(4096, 256, 1), 11008);
  EXPECT_EQ(meta_intermediate_size(5120, 256, 1), 13824);
  EXPECT_EQ(meta_intermediate_size(8192, 4096, 1.3), 28672);
}

TEST(MetaParams, FindsAFormulaForAnyIntermediateSize) {
  TempFolder folder;
  for (const int64_t hidden : {64, 4096, 8192}) {
    for (const int64_t inner : {int64_t{1}, int64_t{172}, int64_t{11008}, int64_t{28672},
                                int64_t{28673}, int64_t{14336}, int64_t{7919}}) {
      LlamaShape shape{hidden, inner, 2, 16, 8, 40};
      write_text(folder / "params.json", meta_params_json(shape).dump());
      const LlamaShape back = read_meta_params(folder / "params.json");
      EXPECT_EQ(back.intermediate, inner) << hidden;
      EXPECT_EQ(back.hidden, hidden);
      EXPECT_EQ(back.kv_heads, 8);
      EXPECT_EQ(back.vocab, 40);
    }
  }
  // Meta's own numbers for the 70B model.
  const ordered_json params = meta_params_json({8192, 28672, 80, 64, 8, 32000});
  EXPECT_EQ(params["multiple_of"], 4096);
  EXPECT_EQ(params["ffn_dim_multiplier"], 1.3);
}

TEST(MetaParams, RefusesLies) {
  TempFolder folder;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {R"([])", "expected a JSON object"},
      {R"({"dim": 64, "n_layers": 2})", "n_heads is missing"},
      {R"({"dim": 64.5, "n_layers": 2, "n_heads": 4})", "dim is 64.5"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 0})", "number of heads is 0"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 5})", "does not give 5 heads"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 8, "n_kv_heads": 3})", "key/value heads"},
      {R"({"dim": -64, "n_layers": 2, "n_heads": 4})", "dim is -64"},
      {R"({"dim": 9223372036854775807, "n_layers": 2, "n_heads": 4})",
       "dim is 9223372036854775807"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 4, "multiple_of": 0})", "multiple_of is 0"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 4, "ffn_dim_multiplier": 1e300})", "multiplier"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 4, "vocab_size": -2})", "vocabulary size is -2"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 4, "norm_eps": 0})", "epsilon is 0"},
      {R"({"dim": 64, "n_layers": 2, "n_heads": 4, "use_scaled_rope": true})", "LLaMA-3.1"}};
  for (const auto& [text, problem] : bad) {
    write_text(folder / "params.json", text);
    expect_error(ErrorKind::kFormat, problem, [&] { read_meta_params(folder / "params.json"); });
  }
}

class MetaFolder : public testing::TestWithParam<int> {};

TEST_P(MetaFolder, LoadsEqualToHuggingFace) {
  TempFolder folder;
  const auto hf = hf_tensors(at::kBFloat16);
  write_folder(folder, hf, GetParam());
  EXPECT_TRUE(is_meta_folder(folder.path()));
  const auto source = open_meta_checkpoint(folder.path());
  expect_same(*source, hf);
  const ordered_json& config = source->config();
  EXPECT_EQ(config["vocab_size"], kVocab);  // -1 in the file
  EXPECT_EQ(config["intermediate_size"], kInner);
  EXPECT_EQ(config["num_key_value_heads"], kKvHeads);
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_EQ(config["tie_word_embeddings"], false);
}

TEST_P(MetaFolder, WritesWhatItReads) {
  TempFolder folder, expected;
  const auto hf = hf_tensors();
  write_meta_checkpoint(folder.path(), MemorySource(hf), hf_config(), GetParam());
  expect_same(*open_meta_checkpoint(folder.path()), hf);
  // And part by part what this test cuts.
  const std::vector<Cut> cuts = meta_cuts(hf);
  for (int part = 0; part < GetParam(); ++part) {
    const auto written = open_torch_zip(folder / part_file(part));
    for (const auto& [name, tensor] : meta_part(cuts, part, GetParam())) {
      if (name == "rope.freqs") continue;
      EXPECT_TRUE(at::equal(written->load(name), tensor)) << name;
    }
  }
  EXPECT_FALSE(std::filesystem::exists(folder / part_file(GetParam())));
}

INSTANTIATE_TEST_SUITE_P(Parts, MetaFolder, testing::Values(1, 2, 8));

TEST(MetaFolderErrors, MissingParts) {
  TempFolder folder;
  const auto hf = hf_tensors();
  write_folder(folder, hf, 2);
  std::filesystem::rename(folder / part_file(1), folder / "aside");
  // Only the shapes can tell that the last part is missing.
  expect_error(ErrorKind::kFormat, "a part is missing",
               [&] { open_meta_checkpoint(folder.path()); });
  std::filesystem::rename(folder / part_file(0), folder / part_file(1));
  EXPECT_TRUE(is_meta_folder(folder.path()));
  expect_error(ErrorKind::kFormat, "consolidated.00.pth is missing",
               [&] { open_meta_checkpoint(folder.path()); });
  std::filesystem::remove(folder / part_file(1));
  EXPECT_FALSE(is_meta_folder(folder.path()));
  expect_error(ErrorKind::kFormat, "no consolidated", [&] { open_meta_checkpoint(folder.path()); });
}

TEST(MetaFolderErrors, PartsThatDisagree) {
  TempFolder folder;
  const auto hf = hf_tensors();
  write_folder(folder, hf, 2);
  Named second = meta_part(meta_cuts(hf), 1, 2);
  Named changed = second;
  changed[0].second = at::zeros({kVocab, kHidden / 2 + 1});
  write_torch_zip(folder / part_file(1), changed);
  expect_error(ErrorKind::kFormat, "the parts belong to different models",
               [&] { open_meta_checkpoint(folder.path()); });
  changed = second;
  changed[3].second = changed[3].second.to(at::kHalf);
  write_torch_zip(folder / part_file(1), changed);
  expect_error(ErrorKind::kFormat, "float16", [&] { open_meta_checkpoint(folder.path()); });
  changed = second;
  changed.erase(changed.begin() + 4);
  write_torch_zip(folder / part_file(1), changed);
  expect_error(ErrorKind::kFormat, "attention.wk", [&] { open_meta_checkpoint(folder.path()); });
  changed = second;
  changed.emplace_back("layers.2.attention.wq.weight", at::zeros({2, 2}));
  write_torch_zip(folder / part_file(1), changed);
  expect_error(ErrorKind::kFormat, "has no place", [&] { open_meta_checkpoint(folder.path()); });
}

TEST(MetaFolderErrors, ParamsOfAnotherModel) {
  TempFolder folder;
  const auto hf = hf_tensors();
  const auto try_params = [&](const std::string& params, const std::string& problem) {
    write_text(folder / "params.json", params);
    expect_error(ErrorKind::kFormat, problem, [&] { open_meta_checkpoint(folder.path()); });
  };
  write_folder(folder, hf, 1);
  try_params(R"({"dim":128,"n_layers":2,"n_heads":16,"n_kv_heads":8,"multiple_of":256})",
             "[512, 128]");
  try_params(R"({"dim":128,"n_layers":2,"n_heads":16,"multiple_of":8})", "attention.wk");
  try_params(R"({"dim":128,"n_layers":3,"n_heads":16,"n_kv_heads":8,"multiple_of":8})",
             "layers.2.");
  try_params(R"({"dim":128,"n_layers":1,"n_heads":16,"n_kv_heads":8,"multiple_of":8})",
             "has no place");
  try_params(R"({"dim":128,"n_layers":1000000,"n_heads":16,"n_kv_heads":8,"multiple_of":8})",
             "n_layers is 1000000");
  try_params(
      R"({"dim":128,"n_layers":2,"n_heads":16,"n_kv_heads":8,"multiple_of":8,"vocab_size":41})",
      "[41, 128]");
}

TEST(MetaWrite, TiedHeadIsWrittenOut) {
  TempFolder folder;
  auto hf = hf_tensors();
  hf.erase("lm_head.weight");
  write_meta_checkpoint(folder.path(), MemorySource(hf), hf_config(/*tied=*/true), 2);
  hf["lm_head.weight"] = hf["model.embed_tokens.weight"];
  expect_same(*open_meta_checkpoint(folder.path()), hf);
}

TEST(MetaWrite, RefusesWhatTheLayoutCannotHold) {
  TempFolder folder;
  const auto hf = hf_tensors();
  const auto try_write = [&](const std::map<std::string, at::Tensor>& tensors, ordered_json config,
                             int parts, ErrorKind kind, const std::string& problem) {
    expect_error(kind, problem, [&] {
      write_meta_checkpoint(folder.path(), MemorySource(tensors), config, parts);
    });
  };
  try_write(hf, hf_config(), 0, ErrorKind::kUsage, "parts");
  try_write(hf, hf_config(), 3, ErrorKind::kUsage, "number of heads (16)");
  try_write(hf, hf_config(), 16, ErrorKind::kUsage, "key/value heads (8)");
  ordered_json config = hf_config();
  config["attention_bias"] = true;
  try_write(hf, config, 1, ErrorKind::kFormat, "attention_bias");
  config = hf_config();
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  try_write(hf, config, 1, ErrorKind::kFormat, "rope_scaling");
  config = hf_config();
  config["head_dim"] = 16;
  try_write(hf, config, 1, ErrorKind::kFormat, "head_dim");
  auto tensors = hf;
  tensors["model.layers.0.self_attn.q_proj.bias"] = at::zeros({kHidden});
  try_write(tensors, hf_config(), 1, ErrorKind::kFormat, "q_proj.bias");
  tensors = hf;
  tensors.erase("lm_head.weight");
  try_write(tensors, hf_config(), 1, ErrorKind::kFormat, "lm_head.weight");
  tensors = hf;
  tensors["model.norm.weight"] = at::zeros({kHidden + 1});
  try_write(tensors, hf_config(), 1, ErrorKind::kFormat, "model.norm.weight has shape [129]");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace llama2zh::foreign_test
