// Writing safetensors: https://github.com/huggingface/safetensors, and the shards with index of
// transformers (modeling_utils.py, save_pretrained): model-0000i-of-0000n.safetensors and
// model.safetensors.index.json = {"metadata": {"total_size": bytes}, "weight_map": {name: file}}.
// Python's reader views the bytes as their type in place, so every tensor must start at a multiple
// of its element size. A whole file is therefore laid out by falling element size and then by name,
// as the reference writer does; a stream can't reorder, it opens a new shard instead.
#include <algorithm>
#include <cstdio>
#include <set>

#include "formats/dtype.h"
#include "formats/safetensors_file.h"
#include "formats/tensor_bytes.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"

namespace llama2zh {
namespace {

constexpr const char* kWholeName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

uint64_t total_bytes(const std::vector<TensorInfo>& infos) {
  uint64_t total = 0;
  for (const auto& info : infos) {
    const auto bytes = dense_bytes(info.shape, info.dtype);
    if (!bytes || __builtin_add_overflow(total, *bytes, &total)) {
      fail_data(info.name, cat("shape ", shape_text(info.shape), " is negative or too large"));
    }
  }
  return total;
}

}  // namespace

void write_safetensors(const fs::path& file,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  auto sorted = tensors;
  for (const auto& [name, tensor] : sorted) check_storable(file.string(), name, tensor);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    const auto size_a = a.second.element_size(), size_b = b.second.element_size();
    return size_a != size_b ? size_a > size_b : a.first < b.first;
  });
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : sorted) infos.push_back(info_of(name, tensor));
  check_free_space(file.parent_path().empty() ? fs::path(".") : file.parent_path(),
                   total_bytes(infos));
  SafetensorsFile out(file, infos, metadata);
  for (const auto& entry : sorted) out.add(entry.second);
  out.commit();
}

struct ShardedWriter::Impl {
  fs::path folder;
  std::vector<TensorInfo> infos;
  std::vector<size_t> ends;  // of each shard: index past its last tensor
  std::vector<std::string> files;
  std::unique_ptr<SafetensorsFile> current;
  size_t next = 0;   // tensor to be added
  size_t shard = 0;  // shard that it goes to
  bool finished = false;

  void plan(uint64_t max_shard_bytes);
  void name_files();
  void open_shard();
  void close_shard();
  void write_index() const;
};

void ShardedWriter::Impl::plan(uint64_t max_shard_bytes) {
  uint64_t size = 0;
  for (size_t i = 0; i < infos.size(); ++i) {
    const uint64_t bytes = infos[i].bytes();
    const bool full = size > 0 && (bytes > max_shard_bytes || size > max_shard_bytes - bytes);
    const bool misaligned = size % c10::elementSize(infos[i].dtype) != 0;
    if (full || misaligned) {
      ends.push_back(i);
      size = 0;
    }
    size += bytes;
  }
  ends.push_back(infos.size());
}

void ShardedWriter::Impl::name_files() {
  if (ends.size() == 1) {
    files = {kWholeName};
    return;
  }
  for (size_t i = 1; i <= ends.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i, ends.size());
    files.emplace_back(name);
  }
  if (fs::exists(folder / kWholeName)) {
    fail_usage((folder / kWholeName).string(),
               "the folder already holds this file, which would be read instead of the shards",
               "write into an empty folder, or remove it");
  }
}

void ShardedWriter::Impl::open_shard() {
  const size_t begin = shard == 0 ? 0 : ends[shard - 1];
  const std::vector<TensorInfo> part(infos.begin() + static_cast<std::ptrdiff_t>(begin),
                                     infos.begin() + static_cast<std::ptrdiff_t>(ends[shard]));
  current = std::make_unique<SafetensorsFile>(folder / files[shard], part,
                                              std::map<std::string, std::string>{});
}

void ShardedWriter::Impl::close_shard() {
  current->commit();
  current.reset();
  ++shard;
}

void ShardedWriter::Impl::write_index() const {
  ordered_json index;
  index["metadata"] = {{"total_size", total_bytes(infos)}};
  std::map<std::string, std::string> weight_map;
  size_t file = 0;
  for (size_t i = 0; i < infos.size(); ++i) {
    while (i >= ends[file]) ++file;
    weight_map[infos[i].name] = files[file];
  }
  index["weight_map"] = weight_map;
  write_json_file(folder / kIndexName, index);
}

ShardedWriter::ShardedWriter(fs::path folder, std::vector<TensorInfo> infos,
                             uint64_t max_shard_bytes)
    : impl_(std::make_unique<Impl>()) {
  impl_->folder = std::move(folder);
  impl_->infos = std::move(infos);
  const auto where = impl_->folder.string();
  if (impl_->infos.empty()) fail_data(where, "there are no tensors to write");
  std::set<std::string_view> names;
  for (const auto& info : impl_->infos) {
    if (!names.insert(info.name).second) {
      fail_data(where, cat("tensor ", info.name, " was declared twice"));
    }
  }
  const uint64_t total = total_bytes(impl_->infos);
  impl_->plan(std::max<uint64_t>(max_shard_bytes, 1));
  impl_->name_files();
  check_free_space(impl_->folder, total);
}

ShardedWriter::~ShardedWriter() {
  if (!impl_ || impl_->finished) return;
  impl_->current.reset();
  std::error_code ignored;  // a destructor can do no more about it
  for (size_t i = 0; i < impl_->shard; ++i) fs::remove(impl_->folder / impl_->files[i], ignored);
}

void ShardedWriter::add(std::string_view name, const at::Tensor& tensor) {
  const auto where = impl_->folder.string();
  if (impl_->next >= impl_->infos.size()) {
    fail_data(where, cat("tensor ", name, " was added after the last one that was declared"));
  }
  const TensorInfo& info = impl_->infos[impl_->next];
  if (info.name != name) {
    fail_data(where, cat("tensor ", name, " was added, ", info.name, " was to come next"));
  }
  check_storable(where, name, tensor);
  if (tensor.scalar_type() != info.dtype || tensor.sizes() != at::IntArrayRef(info.shape)) {
    fail_data(where,
              cat("tensor ", name, " is ", c10::toString(tensor.scalar_type()), " ", tensor.sizes(),
                  ", ", c10::toString(info.dtype), " ", shape_text(info.shape), " was declared"));
  }
  if (!impl_->current) impl_->open_shard();
  impl_->current->add(tensor);
  if (++impl_->next == impl_->ends[impl_->shard]) impl_->close_shard();
}

void ShardedWriter::finish() {
  if (impl_->next != impl_->infos.size()) {
    fail_data(impl_->folder.string(),
              cat("tensor ", impl_->infos[impl_->next].name, " was declared but not added"));
  }
  if (impl_->files.size() > 1 && !impl_->finished) {
    impl_->write_index();
    impl_->files.emplace_back(kIndexName);
  }
  impl_->finished = true;
}

const std::vector<std::string>& ShardedWriter::files() const { return impl_->files; }

}  // namespace llama2zh
