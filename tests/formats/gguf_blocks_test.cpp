// Quantized blocks against the Python package gguf and llama.cpp's library, bit for bit
// (scripts/make_gguf_reference.py).
#include "formats/gguf_blocks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>

#include <cstdlib>
#include <cstring>

#include "format_test.h"
#include "formats/gguf_types.h"
#include "llama2zh/base/json.h"

namespace llama2zh {
namespace {

json gguf_reference() {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return read_json_file(std::filesystem::path(source == nullptr ? "." : source) /
                        "tests/reference/gguf.json");
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

GgmlType type_named(const std::string& name) {
  for (uint32_t type = 0; type < 64; ++type) {
    const auto* traits = ggml_traits(type);
    if (traits != nullptr && traits->name == name) return traits->type;
  }
  throw std::runtime_error("no type " + name);
}

std::string float_bytes(const at::Tensor& tensor) {
  return std::string(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
}

TEST(GgufBlocks, DequantizeAsThePackageDoes) {
  const json all = gguf_reference()["dequantize"];
  ASSERT_EQ(all.size(), 8u);
  for (const auto& [name, entry] : all.items()) {
    const GgmlType type = type_named(name);
    const std::string blocks = from_hex(entry["blocks"]), floats = from_hex(entry["floats"]);
    const auto values = static_cast<int64_t>(floats.size() / 4);
    const at::Tensor ours =
        dequantize_ggml(type, reinterpret_cast<const std::byte*>(blocks.data()), {1, values});
    EXPECT_EQ(float_bytes(ours), floats) << name;
  }
}

TEST(GgufBlocks, QuantizeAsTheReferenceDoes) {
  const json entry = gguf_reference()["quantize"];
  const std::string floats = from_hex(entry["floats"]);
  at::Tensor rows = at::empty({entry["rows"].get<int64_t>(), entry["columns"].get<int64_t>()});
  ASSERT_EQ(rows.nbytes(), floats.size());
  std::memcpy(rows.mutable_data_ptr(), floats.data(), floats.size());
  for (const char* name : {"Q8_0", "Q4_0", "Q6_K"}) {
    const auto blocks = quantize_ggml(type_named(name), rows, "rows");
    const std::string ours(reinterpret_cast<const char*>(blocks.data()), blocks.size());
    const std::string theirs = from_hex(entry[name]);
    ASSERT_EQ(ours.size(), theirs.size());
    size_t different = 0;
    for (size_t i = 0; i < ours.size(); ++i) different += ours[i] != theirs[i] ? 1 : 0;
    EXPECT_EQ(different, 0u) << name << ": of " << ours.size() << " bytes";
  }
}

TEST(GgufBlocks, ThreadsChangeNothing) {
  const at::Tensor rows = at::randn({64, 4096});
  const auto blocks = quantize_ggml(GgmlType::kQ6_K, rows, "rows");
  const at::Tensor whole = dequantize_ggml(GgmlType::kQ6_K, blocks.data(), rows.sizes());
  at::Tensor serial = at::empty({64, 4096});
  dequantize_ggml(GgmlType::kQ6_K, blocks.data(), rows.numel() / 256,
                  serial.mutable_data_ptr<float>());
  EXPECT_EQ(float_bytes(whole), float_bytes(serial));
}

}  // namespace
}  // namespace llama2zh
