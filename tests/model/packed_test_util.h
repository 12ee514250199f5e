#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/formats/safetensors.h"
#include "model/model_test_util.h"

// Checkpoints in GPTQ's and AWQ's layouts, packed number by number as the layouts are published.
namespace llama2zh::testing {

struct PackedKind {
  std::string name;  // "gptq" | "awq"
  int bits = 4;
  int64_t group_size = 32;  // -1: a whole row
  bool v2 = false;          // gptq: zeros as they are
  bool act_order = false;   // gptq: columns belong to groups in any order
  bool symmetric = false;
  bool beside = false;  // settings in the older file beside config.json
  at::ScalarType scales = at::kHalf;
};

struct PackedWeightParts {
  std::map<std::string, at::Tensor> tensors;  // by suffix: "qweight"
  at::Tensor weight;                          // what they mean, fp32 [out, in]
};

// `values` [rows, columns] uint8, n = 32 / bits neighbours along a row in one word, the i-th at place
// order[i].
inline at::Tensor words_of_rows(const at::Tensor& values, int bits, const std::vector<int>& order,
                                uint32_t less) {
  const int64_t n = 32 / bits, rows = values.size(0), words = values.size(1) / n;
  at::Tensor result = at::zeros({rows, words}, at::kInt);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < words; ++c) {
      uint32_t word = 0;
      for (int64_t i = 0; i < n; ++i) {
        const auto value = values[r][c * n + order[static_cast<size_t>(i)]].item<uint8_t>();
        word |= static_cast<uint32_t>(value) << (bits * i);
      }
      result[r][c] = static_cast<int32_t>(word - less);
    }
  }
  return result;
}

inline PackedWeightParts pack_weight(const PackedKind& kind, int64_t out, int64_t in,
                                     uint64_t seed) {
  const at::Generator random = at::detail::createCPUGenerator(seed);
  const int64_t group = kind.group_size == -1 ? in : kind.group_size;
  const int64_t groups = (in + group - 1) / group, top = int64_t{1} << kind.bits;
  const at::Tensor codes = at::randint(0, top, {in, out}, random, at::kByte);
  const at::Tensor zeros = kind.symmetric ? at::full({groups, out}, top / 2, at::kByte)
                                          : at::randint(0, top, {groups, out}, random, at::kByte);
  const at::Tensor scales = at::empty({groups, out}, at::kFloat)
                                .uniform_(0.01, 0.05, random)
                                .mul_(16.0 / static_cast<double>(top))
                                .to(kind.scales);
  at::Tensor of_column = at::empty({in}, at::kInt);
  const at::Tensor place = at::randperm(in, random, at::kLong);
  for (int64_t k = 0; k < in; ++k) {
    const int64_t at = kind.act_order ? place[k].item<int64_t>() : k;
    of_column[k] = static_cast<int32_t>(at / group);
  }
  PackedWeightParts result;
  const at::Tensor index = of_column.to(at::kLong);
  result.weight = ((codes.to(at::kFloat) - zeros.to(at::kFloat).index_select(0, index)) *
                   scales.to(at::kFloat).index_select(0, index))
                      .t()
                      .contiguous();
  std::vector<int> in_order = {0, 1, 2, 3, 4, 5, 6, 7};
  result.tensors["scales"] = scales;
  if (kind.name == "awq") {
    const std::vector<int> order = {0, 2, 4, 6, 1, 3, 5, 7};
    result.tensors["qweight"] = words_of_rows(codes, kind.bits, order, 0);
    result.tensors["qzeros"] = words_of_rows(zeros, kind.bits, order, 0);
    return result;
  }
  const uint32_t ones = kind.bits == 4 ? 0x11111111 : 0x01010101;
  result.tensors["qweight"] = words_of_rows(codes.t(), kind.bits, in_order, 0).t().contiguous();
  result.tensors["qzeros"] = words_of_rows(zeros, kind.bits, in_order, kind.v2 ? 0 : ones);
  result.tensors["g_idx"] = of_column;
  return result;
}

inline ordered_json packed_settings(const PackedKind& kind) {
  if (kind.name == "awq" && kind.beside)
    return {{"w_bit", kind.bits},
            {"q_group_size", kind.group_size},
            {"zero_point", true},
            {"version", "GEMM"},
            {"activations", "float"}};
  ordered_json settings = {
      {"bits", kind.bits}, {"group_size", kind.group_size}, {"activations", "float"}};
  if (!kind.beside) settings["quant_method"] = kind.name;
  if (kind.name == "gptq") {
    settings["desc_act"] = kind.act_order;
    settings["sym"] = kind.symmetric;
    if (kind.v2) settings["checkpoint_format"] = "gptq_v2";
  } else {
    settings["zero_point"] = true;
    settings["version"] = "gemm";
    settings["modules_to_not_convert"] = nullptr;
  }
  return settings;
}

// Makes the folder anew: tensors and config.json, with the settings in it or in a file beside it.
inline void write_packed_folder(const std::filesystem::path& folder,
                                const std::map<std::string, at::Tensor>& tensors,
                                const LlamaConfig& config, const ordered_json& settings,
                                const std::string& file_beside = "") {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors)
    infos.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  ShardedWriter writer(folder, infos, 1'000'000'000);
  for (const auto& [name, tensor] : tensors) writer.add(name, tensor);
  writer.finish();
  ordered_json json = config.to_json();
  if (file_beside.empty()) {
    json["quantization_config"] = settings;
  } else {
    write_json_file(folder / file_beside, settings);
  }
  write_json_file(folder / "config.json", json);
}

// The tensors of a packed checkpoint whose numbers are put into `model`'s projections too.
inline std::map<std::string, at::Tensor> pack_model(Llama& model, const PackedKind& kind) {
  std::map<std::string, at::Tensor> tensors;
  model.for_each_weight(
      [&](const std::string& name, at::Tensor& weight) { tensors[name] = weight; });
  uint64_t seed = 100;
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    const PackedWeightParts parts =
        pack_weight(kind, linear.weight.size(0), linear.weight.size(1), ++seed);
    tensors.erase(name + ".weight");
    for (const auto& [suffix, tensor] : parts.tensors) tensors[name + "." + suffix] = tensor;
    linear.weight = parts.weight;
  });
  return tensors;
}

}  // namespace llama2zh::testing
