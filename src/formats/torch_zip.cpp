// Reading torch.save archives (torch >= 1.6): a zip of stored entries under one folder,
//   <archive>/data.pkl    a pickle: dict of name -> _rebuild_tensor_v2(storage, offset, size, stride)
//   <archive>/data/KEY    the bytes of each storage
//   <archive>/byteorder   "little", if there
// pytorch/torch/serialization.py (_save), caffe2/serialize/inline_container.h.
#include "llama2zh/formats/torch_zip.h"

#include <algorithm>
#include <set>

#include "formats/dtype.h"
#include "formats/mapped_tensor.h"
#include "formats/unpickler.h"
#include "formats/zip_reader.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

std::shared_ptr<const MappedFile> map_archive(const fs::path& path) {
  auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  if (bytes.starts_with("PK\x03\x04")) return file;
  const auto where = path.string();
  if (bytes.starts_with("version https://git-lfs")) {
    fail_format(where, "this is a Git LFS pointer, not the weights", "run `git lfs pull`");
  }
  if (bytes.size() >= 2 && bytes[0] == '\x80') {
    fail_format(where,
                "this file was written by torch before 1.6, as one pickle, which is not read",
                "in Python: torch.save(torch.load(file, weights_only=True), new_file)");
  }
  fail_format(where, bytes.empty() ? "the file is empty, a torch.save archive was expected"
                                   : "not a torch.save archive: it does not start as a zip file");
}

// "archive" of "archive/data.pkl".
std::string archive_folder(const ZipReader& zip, const std::string& where) {
  std::string folder;
  for (const auto& [name, entry] : zip.entries()) {
    if (name.starts_with("constants.pkl") || name.find("/constants.pkl") != std::string::npos) {
      fail_format(where, "this is a TorchScript program, not a dict of tensors");
    }
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.substr(slash) != "/data.pkl") continue;
    if (!folder.empty()) fail_format(where, "the archive holds two data.pkl");
    folder = name.substr(0, slash);
  }
  if (folder.empty())
    fail_format(where, "the zip archive holds no data.pkl: torch.save did not write it");
  return folder;
}

void check_byteorder(const ZipReader& zip, const std::string& folder, const std::string& where) {
  const auto* entry = zip.find(folder + "/byteorder");
  if (entry != nullptr && zip.bytes(*entry) != "little") {
    fail_format(where, cat("its byte order is ", zip.bytes(*entry).substr(0, 16),
                           ", only little is supported"));
  }
}

// One past the last element that shape and strides reach, from the first; nullopt on overflow.
std::optional<int64_t> reach(const PickledTensor& tensor) {
  int64_t last = 0;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    int64_t step = 0;
    if (tensor.shape[i] == 0) return 0;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return std::nullopt;
    }
  }
  int64_t end = 0;
  if (__builtin_add_overflow(last, 1, &end)) return std::nullopt;
  return end;
}

class TorchZipSource final : public TensorSource {
 public:
  explicit TorchZipSource(const fs::path& path) : zip_(map_archive(path)) {
    const auto where = path.string();
    const auto folder = archive_folder(zip_, where);
    check_byteorder(zip_, folder, where);
    auto tensors = unpickle_tensors(zip_.bytes(*zip_.find(folder + "/data.pkl")), where);
    std::sort(tensors.begin(), tensors.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    for (auto& tensor : tensors) add(std::move(tensor), folder, where);
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  at::Tensor load(std::string_view name) const override {
    const TensorInfo& info = require(name);
    const Place& place = places_[static_cast<size_t>(&info - infos_.data())];
    return map_tensor(zip_.file(), place.offset, info, place.strides);
  }

  std::string describe() const override { return zip_.file()->path().string(); }

 private:
  struct Place {
    uint64_t offset = 0;
    std::vector<int64_t> strides;
  };

  void add(PickledTensor tensor, const std::string& folder, const std::string& where);

  ZipReader zip_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
};

// Three sizes must agree: the entry in the file >= what the pickle says of the storage >= what shape
// and strides reach. Expanded tensors (stride 0) could still claim terabytes of a few bytes: refused.
void TorchZipSource::add(PickledTensor tensor, const std::string& folder,
                         const std::string& where) {
  const auto at = cat(where, ": tensor ", tensor.name);
  const auto* entry = zip_.find(cat(folder, "/data/", tensor.storage));
  if (entry == nullptr) fail_format(at, cat("its storage data/", tensor.storage, " is missing"));
  if (tensor.storage_bytes > entry->size) {
    fail_format(at, cat("its storage is said to have ", tensor.storage_bytes, " bytes, data/",
                        tensor.storage, " has ", entry->size));
  }
  const auto bytes = dense_bytes(tensor.shape, tensor.dtype);
  const auto end = reach(tensor);
  const uint64_t item = c10::elementSize(tensor.dtype);
  const uint64_t elements = tensor.storage_bytes / item;
  const bool fits =
      bytes && end && *bytes <= tensor.storage_bytes &&
      static_cast<uint64_t>(tensor.storage_offset) <= elements &&
      static_cast<uint64_t>(*end) <= elements - static_cast<uint64_t>(tensor.storage_offset);
  if (!fits) {
    fail_format(at, cat("shape ", shape_text(tensor.shape), " with strides ",
                        shape_text(tensor.strides), " at offset ", tensor.storage_offset,
                        " does not fit into its storage of ", elements, " elements"));
  }
  places_.push_back({entry->offset + static_cast<uint64_t>(tensor.storage_offset) * item,
                     std::move(tensor.strides)});
  infos_.push_back({std::move(tensor.name), tensor.dtype, std::move(tensor.shape)});
}

}  // namespace

std::unique_ptr<TensorSource> open_torch_zip(const fs::path& file) {
  return std::make_unique<TorchZipSource>(file);
}

}  // namespace llama2zh
