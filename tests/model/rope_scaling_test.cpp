// Rotary scalings against transformers (scripts/make_method_reference.py), reading and writing them,
// and the way of a scaling from a training run into what uses its result.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>

#include "llama2zh/base/file.h"
#include "llama2zh/model/merge.h"
#include "model/model_test_util.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::max_difference;

std::filesystem::path method_reference(const std::string& name) {
  return testing::reference_folder("..") / ".." / name;
}

json rope_reference() { return read_json_file(method_reference("reference/method/rope.json")); }

at::Tensor matrix(const json& rows) {
  std::vector<at::Tensor> parts;
  for (const json& row : rows) parts.push_back(at::tensor(row.get<std::vector<float>>()));
  return at::stack(parts);
}

// Each position as the last of its own sequence, as a batch of one would have it.
std::pair<at::Tensor, at::Tensor> tables_at(const LlamaConfig& config,
                                            const std::vector<int64_t>& positions) {
  const RotaryEmbedding rotary(config.head_dim, config.rope, at::kCPU);
  std::vector<at::Tensor> cos, sin;
  for (const int64_t position : positions) {
    const auto [c, s] = rotary.at_positions(at::arange(positions.back() + 1, at::kLong));
    cos.push_back(c[position]);
    sin.push_back(s[position]);
  }
  return {at::stack(cos), at::stack(sin)};
}

TEST(RopeScaling, TablesAreTransformers) {
  const json reference = rope_reference();
  for (const json& one : reference["cases"]) {
    const LlamaConfig config = LlamaConfig::parse(one["config"], one["name"].get<std::string>());
    EXPECT_NE(config.rope.type, "default");
    const auto [cos, sin] = tables_at(config, one["positions"]);
    EXPECT_LT(max_difference(cos, matrix(one["cos"])), 2e-5) << one["name"];
    EXPECT_LT(max_difference(sin, matrix(one["sin"])), 2e-5) << one["name"];
  }
}

TEST(RopeScaling, LogitsAreTransformers) {
  const json reference = rope_reference();
  const at::Tensor ids = at::tensor(reference["ids"].get<std::vector<int64_t>>());
  const at::Tensor rows = at::tensor(reference["rows"].get<std::vector<int64_t>>());
  for (const auto& [name, logits] : reference["logits"].items()) {
    OpenModel open = open_model(method_reference("reference/train/base"));
    for (const json& one : reference["cases"]) {
      if (one["name"] != name) continue;
      ordered_json config = open.config.to_json();
      config["rope_scaling"] = nullptr;
      config["rope_parameters"] = one["config"]["rope_parameters"];
      config["rope_parameters"]["rope_theta"] = 10000.0;
      open.config = LlamaConfig::parse(config, name);
    }
    ASSERT_NE(open.config.rope.type, "default");
    const auto model = load_model(open, at::kFloat, at::kCPU);
    PackedSequences context(ids.size(0), at::kCPU);
    const at::Tensor ours = model->logits(model->forward(ids, context)).index_select(0, rows);
    EXPECT_LT(max_difference(ours, matrix(logits)), 1e-4) << name;
  }
}

TEST(RopeScaling, BothSpellingsAreWrittenAndReadBack) {
  const json reference = rope_reference();
  for (const json& one : reference["cases"]) {
    const LlamaConfig config = LlamaConfig::parse(one["config"], "reference");
    ordered_json written = config.to_json();
    const auto same = [&](const char* without) {
      ordered_json copy = written;
      copy[without] = nullptr;
      if (std::string(without) == "rope_parameters") copy.erase("rope_parameters");
      const LlamaConfig back = LlamaConfig::parse(copy, "written");
      EXPECT_EQ(back.to_json()["rope_parameters"], written["rope_parameters"]) << one["name"];
    };
    same("rope_parameters");
    same("rope_scaling");
  }
}

TEST(RopeScaling, DynamicStretchesEachSequenceByItself) {
  RopeConfig rope;
  rope.type = "dynamic";
  rope.factor = 2;
  rope.original_max_position_embeddings = 16;
  const RotaryEmbedding rotary(8, rope, at::kCPU);
  const at::Tensor shorter = at::arange(10, at::kLong), longer = at::arange(40, at::kLong);
  const auto both = rotary.at_positions(at::cat({shorter, longer, shorter}));
  EXPECT_TRUE(both.first.narrow(0, 0, 10).equal(rotary.at_positions(shorter).first));
  EXPECT_TRUE(both.first.narrow(0, 10, 40).equal(rotary.at_positions(longer).first));
  EXPECT_TRUE(both.first.narrow(0, 50, 10).equal(rotary.at_positions(shorter).first));
  EXPECT_GT(max_difference(rotary.at_positions(longer).first.narrow(0, 0, 10),
                           rotary.at_positions(shorter).first),
            1e-3);
}

TEST(RopeScaling, SetOnAModel) {
  LlamaConfig config = testing::small_config();
  RopeConfig yarn;
  yarn.type = "yarn";
  yarn.factor = 4;
  set_rope_scaling(config, yarn);
  EXPECT_EQ(config.max_position_embeddings, 256);
  EXPECT_EQ(config.rope.original_max_position_embeddings, 64);
  EXPECT_EQ(config.rope.theta, 10000);
  expect_error(ErrorKind::kUsage, "scaled already", [&] { set_rope_scaling(config, yarn); });
  yarn.original_max_position_embeddings = 64;
  yarn.factor = 8;
  set_rope_scaling(config, yarn);
  EXPECT_EQ(config.max_position_embeddings, 512);
  RopeConfig dynamic;
  dynamic.type = "dynamic";
  dynamic.factor = 2;
  dynamic.original_max_position_embeddings = 64;
  set_rope_scaling(config, dynamic);
  EXPECT_EQ(config.max_position_embeddings, 64);
  EXPECT_EQ(config.context_length(), 128);
}

TEST(RopeScaling, WhatMakesNoRotationIsRefused) {
  const auto refused = [](const ordered_json& rope, const char* part) {
    ordered_json config = testing::small_config().to_json();
    config["rope_scaling"] = rope;
    expect_error(ErrorKind::kFormat, part, [&] { LlamaConfig::parse(config, "config.json"); });
  };
  refused({{"rope_type", "longrope"}, {"factor", 2}}, "not supported");
  refused({{"rope_type", "yarn"}}, "needs a factor");
  refused({{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", 1}, {"beta_slow", 32}}, "beta_slow");
  refused({{"rope_type", "llama3"}, {"factor", 2}}, "low_freq_factor");
  refused({{"rope_type", "yarn"}, {"factor", 2}, {"original_max_position_embeddings", 0}},
          "original_max_position_embeddings");
}

// A scaling that an adapter was trained with is in its manifest, and in the merged config.json.
TEST(RopeScaling, GoesFromTheAdapterIntoTheMergedModel) {
  const testing::TemporaryFolder folder;
  for (const char* name : {"base", "adapter", "merged"}) {
    std::filesystem::create_directory(folder.path() / name);
  }
  const auto model = testing::small_model();
  save_model(folder.path() / "base", *model, nullptr, {});
  LoraConfig lora;
  inject_lora(*model, lora, 7);
  write_peft_adapter(folder.path() / "adapter", extract_adapter(*model, lora, "base", at::kFloat),
                     /*trained=*/false);
  LlamaConfig scaled = model->config;
  RopeConfig yarn;
  yarn.type = "yarn";
  yarn.factor = 4;
  set_rope_scaling(scaled, yarn);
  Manifest manifest;
  manifest.kind = "adapter";
  manifest.vocab_size = 97;
  manifest.extra["rope_parameters"] = rope_record(scaled);
  write_manifest(folder.path() / "adapter", manifest);
  merge_adapters({folder.path() / "base", {folder.path() / "adapter"}, folder.path() / "merged"},
                 nullptr);
  const LlamaConfig merged = LlamaConfig::read(folder.path() / "merged");
  EXPECT_EQ(merged.to_json()["rope_scaling"], scaled.to_json()["rope_scaling"]);
  EXPECT_EQ(merged.max_position_embeddings, 256);
  const MergeComparison comparison = compare_merge(
      folder.path() / "merged",
      {folder.path() / "base", {folder.path() / "adapter"}, folder.path() / "merged"});
  EXPECT_LT(comparison.max_abs_difference, 1e-4);
}

}  // namespace
}  // namespace llama2zh
