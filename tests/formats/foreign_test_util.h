#pragma once

#include <ATen/core/Tensor.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "formats/format_test.h"
#include "llama2zh/base/error.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh::foreign_test {

using TempFolder = format_test::Scratch;

// Tensors in memory as a source.
class MemorySource : public TensorSource {
 public:
  explicit MemorySource(std::map<std::string, at::Tensor> all) : all_(std::move(all)) {
    for (const auto& [name, tensor] : all_) {
      infos_.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
    }
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  at::Tensor load(std::string_view name) const override { return all_.at(std::string(name)); }
  std::string describe() const override { return "memory"; }

 private:
  std::map<std::string, at::Tensor> all_;
  std::vector<TensorInfo> infos_;
};

template <typename Call>
void expect_error(ErrorKind kind, const std::string& text, Call call) {
  format_test::expect_error(kind, call, text);
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// The shared data folder, empty if there is none.
inline std::filesystem::path shared_data() {
  std::filesystem::path root;
  if (const char* given = std::getenv("LLAMA2ZH_SHARED")) {
    root = given;
  } else if (const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR")) {
    root = std::filesystem::path(source) / ".." / "shared";
  }
  return !root.empty() && std::filesystem::exists(root / "data") ? root / "data"
                                                                 : std::filesystem::path();
}

}  // namespace llama2zh::foreign_test
