// Reading a safetensors file: the header is checked once, the tensors are views of the mapped file.
#include "llama2zh/formats/safetensors.h"

#include "formats/mapped_tensor.h"
#include "formats/safetensors_header.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

class SafetensorsSource final : public TensorSource {
 public:
  explicit SafetensorsSource(const fs::path& path) : file_(MappedFile::open(path)) {
    auto header = parse_safetensors_header(file_->bytes(), file_->size(), path.string());
    infos_.reserve(header.entries.size());
    offsets_.reserve(header.entries.size());
    for (auto& entry : header.entries) {
      infos_.push_back(std::move(entry.info));
      offsets_.push_back(entry.offset);
    }
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  at::Tensor load(std::string_view name) const override {
    const TensorInfo& info = require(name);
    return map_tensor(file_, offsets_[static_cast<size_t>(&info - infos_.data())], info);
  }

  std::string describe() const override { return file_->path().string(); }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::vector<TensorInfo> infos_;
  std::vector<uint64_t> offsets_;
};

}  // namespace

std::unique_ptr<TensorSource> open_safetensors(const fs::path& file) {
  return std::make_unique<SafetensorsSource>(file);
}

}  // namespace llama2zh
