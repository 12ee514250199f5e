// Live: torch and safetensors read what we write, and we what they write.
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cstdlib>

#include "format_test.h"
#include "formats/dtype.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh {
namespace {

using format_test::Scratch;

// The tensors of formats_oracle.py.
std::vector<std::pair<std::string, at::Tensor>> oracle_tensors() {
  std::vector<std::pair<std::string, at::Tensor>> tensors = {{"scalar", at::full({}, 2.5)},
                                                             {"empty", at::zeros({0, 4})}};
  for (const char* name :
       {"bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16",
        "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2"}) {
    const auto dtype = dtype_by_torch(name)->dtype;
    tensors.emplace_back(name, at::arange(24).to(dtype).reshape({2, 3, 4}));
  }
  return tensors;
}

void run_oracle(const Scratch& folder, const char* verb) {
  const auto command =
      cat("'", std::getenv("LLAMA2ZH_ORACLE_PYTHON"), "' '", std::getenv("LLAMA2ZH_SOURCE_DIR"),
          "/tests/oracles/formats_oracle.py' ", verb, " '", folder.path().string(), "' 2>'",
          (folder / "log").string(), "'");
  ASSERT_EQ(std::system(command.c_str()), 0) << format_test::bytes_of(folder / "log");
}

bool have_oracle() {
  return std::getenv("LLAMA2ZH_ORACLE_PYTHON") != nullptr &&
         std::getenv("LLAMA2ZH_SOURCE_DIR") != nullptr;
}

TEST(FormatsOracle, WeReadTheirs) {
  if (!have_oracle()) GTEST_SKIP() << "LLAMA2ZH_ORACLE_PYTHON is not set";
  const Scratch folder;
  run_oracle(folder, "make");
  for (const char* file : {"all.safetensors", "all.bin", "all4.bin"}) {
    const auto source = open_tensors(folder / file);
    const auto expected = oracle_tensors();
    ASSERT_EQ(source->tensors().size(), expected.size()) << file;
    for (const auto& [name, tensor] : expected) {
      const auto loaded = source->load(name);
      EXPECT_EQ(loaded.scalar_type(), tensor.scalar_type()) << file << " " << name;
      EXPECT_TRUE(at::equal(loaded.to(at::kDouble), tensor.to(at::kDouble))) << file << " " << name;
    }
  }
}

TEST(FormatsOracle, TheyReadOurs) {
  if (!have_oracle()) GTEST_SKIP() << "LLAMA2ZH_ORACLE_PYTHON is not set";
  const Scratch folder;
  const auto tensors = oracle_tensors();
  write_safetensors(folder / "ours.safetensors", tensors);
  write_torch_zip(folder / "ours.bin", tensors);
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) {
    infos.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  ShardedWriter writer(folder.path(), infos, 200);
  for (const auto& [name, tensor] : tensors) writer.add(name, tensor);
  writer.finish();
  run_oracle(folder, "check");
}

}  // namespace
}  // namespace llama2zh
