// The types of GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, ggml.h (ggml_type).
#include "formats/gguf_types.h"

#include <array>

#include "formats/dtype.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr std::array<GgmlTypeTraits, 16> kGgmlTypes = {{
    {GgmlType::kF32, "F32", 1, 4, at::kFloat},
    {GgmlType::kF16, "F16", 1, 2, at::kHalf},
    {GgmlType::kBF16, "BF16", 1, 2, at::kBFloat16},
    {GgmlType::kF64, "F64", 1, 8, at::kDouble},
    {GgmlType::kI8, "I8", 1, 1, at::kChar},
    {GgmlType::kI16, "I16", 1, 2, at::kShort},
    {GgmlType::kI32, "I32", 1, 4, at::kInt},
    {GgmlType::kI64, "I64", 1, 8, at::kLong},
    {GgmlType::kQ8_0, "Q8_0", 32, 34, {}},
    {GgmlType::kQ4_0, "Q4_0", 32, 18, {}},
    {GgmlType::kQ4_1, "Q4_1", 32, 20, {}},
    {GgmlType::kQ5_0, "Q5_0", 32, 22, {}},
    {GgmlType::kQ5_1, "Q5_1", 32, 24, {}},
    {GgmlType::kQ4_K, "Q4_K", 256, 144, {}},
    {GgmlType::kQ5_K, "Q5_K", 256, 176, {}},
    {GgmlType::kQ6_K, "Q6_K", 256, 210, {}},
}};

struct ForeignType {
  uint32_t type;
  const char* name;
};
constexpr std::array<ForeignType, 16> kForeignTypes = {{{9, "Q8_1"},
                                                        {10, "Q2_K"},
                                                        {11, "Q3_K"},
                                                        {15, "Q8_K"},
                                                        {16, "IQ2_XXS"},
                                                        {17, "IQ2_XS"},
                                                        {18, "IQ3_XXS"},
                                                        {19, "IQ1_S"},
                                                        {20, "IQ4_NL"},
                                                        {21, "IQ3_S"},
                                                        {22, "IQ2_S"},
                                                        {23, "IQ4_XS"},
                                                        {29, "IQ1_M"},
                                                        {34, "TQ1_0"},
                                                        {35, "TQ2_0"},
                                                        {39, "MXFP4"}}};

struct KindTraits {
  const char* name;
  uint64_t bytes;
};
// By number; kArray has no size of its own.
constexpr std::array<KindTraits, 13> kGgufKinds = {{{"uint8", 1},
                                                    {"int8", 1},
                                                    {"uint16", 2},
                                                    {"int16", 2},
                                                    {"uint32", 4},
                                                    {"int32", 4},
                                                    {"float32", 4},
                                                    {"bool", 1},
                                                    {"string", 8},
                                                    {"array", 0},
                                                    {"uint64", 8},
                                                    {"int64", 8},
                                                    {"float64", 8}}};

}  // namespace

const GgmlTypeTraits* ggml_traits(uint32_t type) {
  for (const auto& traits : kGgmlTypes) {
    if (static_cast<uint32_t>(traits.type) == type) return &traits;
  }
  return nullptr;
}

const GgmlTypeTraits& ggml_traits(GgmlType type) {
  return *ggml_traits(static_cast<uint32_t>(type));
}

std::string ggml_foreign_type_name(uint32_t type) {
  for (const auto& foreign : kForeignTypes) {
    if (foreign.type == type) return foreign.name;
  }
  return "";
}

std::string ggml_type_list() {
  std::string list;
  for (const auto& traits : kGgmlTypes)
    list += (list.empty() ? "" : " ") + std::string(traits.name);
  return list;
}

const char* ggml_type_name(GgmlType type) { return ggml_traits(type).name; }
int64_t ggml_block_size(GgmlType type) { return ggml_traits(type).block; }
bool ggml_is_quantized(GgmlType type) { return ggml_traits(type).block > 1; }

std::optional<uint64_t> ggml_bytes(const GgmlTypeTraits& traits, std::span<const int64_t> shape) {
  // Elements of eight bytes bound the bytes of every type.
  const auto bound = dense_bytes(shape, at::kDouble);
  if (!bound) return std::nullopt;
  const auto elements = static_cast<int64_t>(*bound / 8);
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % traits.block != 0) return std::nullopt;
  return static_cast<uint64_t>(elements / traits.block) * static_cast<uint64_t>(traits.bytes);
}

std::optional<uint64_t> gguf_kind_bytes(uint32_t kind) {
  if (kind >= kGgufKinds.size() || kGgufKinds[kind].bytes == 0) return std::nullopt;
  return kGgufKinds[kind].bytes;
}

const char* gguf_kind_name(GgufKind kind) { return kGgufKinds[static_cast<size_t>(kind)].name; }

uint64_t align_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace llama2zh
