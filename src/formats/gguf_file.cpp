// A mapped GGUF file as tensors; gguf_header.cpp reads and checks what stands before them.
#include <algorithm>
#include <fstream>

#include "formats/gguf_blocks.h"
#include "formats/gguf_types.h"
#include "formats/mapped_tensor.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

class MappedGguf final : public GgufFile {
 public:
  explicit MappedGguf(const fs::path& path)
      : file_(MappedFile::open(path)), header_(parse_gguf_header(file_->bytes(), path.string())) {
    for (const GgufTensor& tensor : header_.tensors) {
      const auto& dense = ggml_traits(tensor.type).dense;
      infos_.push_back({tensor.name, dense.value_or(at::kFloat), tensor.shape});
    }
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::string describe() const override { return file_->path().string(); }
  uint32_t version() const override { return header_.version; }
  const GgufMetadata& metadata() const override { return header_.metadata; }

  const GgufTensor& tensor(std::string_view name) const override {
    const auto index = static_cast<size_t>(&require(name) - infos_.data());
    return header_.tensors[index];
  }

  std::string_view bytes_of(std::string_view name) const override {
    const GgufTensor& found = tensor(name);
    return file_->bytes().substr(found.offset, found.bytes);
  }

  at::Tensor load(std::string_view name) const override {
    const TensorInfo& info = require(name);
    const GgufTensor& found = tensor(name);
    if (!ggml_is_quantized(found.type)) return map_tensor(file_, found.offset, info);
    return dequantize_ggml(found.type, file_->data() + found.offset, info.shape);
  }

 private:
  std::shared_ptr<const MappedFile> file_;
  GgufHeader header_;  // its tensors are sorted as infos_ are
  std::vector<TensorInfo> infos_;
};

}  // namespace

std::unique_ptr<GgufFile> GgufFile::open(const fs::path& path) {
  return std::make_unique<MappedGguf>(path);
}

bool is_gguf_file(const fs::path& path) {
  std::error_code unreadable;
  if (!fs::is_regular_file(path, unreadable)) return false;
  char magic[4] = {};
  std::ifstream in(path, std::ios::binary);
  return in.read(magic, sizeof magic) && std::string_view(magic, sizeof magic) == "GGUF";
}

}  // namespace llama2zh
