// Finding the weights of a folder, and shards with an index.
// The index is {"weight_map": {tensor: file}, ...}: transformers' layout for model.safetensors and
// pytorch_model.bin alike. File names must be plain: a hostile index could otherwise name any file
// of the machine (transformers #47176). A plain name may be a symbolic link, as in the hub's cache.
#include <algorithm>
#include <map>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {
namespace {

constexpr std::string_view kIndexSuffix = ".index.json";

// In order of preference; safetensors before pickles, as transformers does.
constexpr const char* kWeightFiles[] = {"model.safetensors",         "model.safetensors.index.json",
                                        "pytorch_model.bin",         "pytorch_model.bin.index.json",
                                        "adapter_model.safetensors", "adapter_model.bin"};

std::unique_ptr<TensorSource> open_one_file(const fs::path& file) {
  if (file.extension() == ".safetensors") return open_safetensors(file);
  if (file.extension() == ".bin" || file.extension() == ".pth" || file.extension() == ".pt") {
    return open_torch_zip(file);
  }
  fail_format(file.string(), "unknown kind of weights file",
              "expected .safetensors, .bin, .pth, .pt, an .index.json or a folder that holds one");
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
}

class ShardedSource final : public TensorSource {
 public:
  explicit ShardedSource(const fs::path& index) : index_(index) {
    const json root = read_json_file(index);
    if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object() ||
        root["weight_map"].empty()) {
      fail_format(index.string(), "expected an object with a non-empty \"weight_map\"");
    }
    open_shards(root["weight_map"]);
    add_listed(root["weight_map"]);
    add_unlisted();
    infos_.reserve(shard_of_.size());
    for (const auto& [name, shard] : shard_of_) infos_.push_back(shards_[shard]->require(name));
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  at::Tensor load(std::string_view name) const override {
    return shards_[shard_of_.find(require(name).name)->second]->load(name);
  }

  std::string describe() const override {
    return cat(shards_.size(), " shards of ", index_.string());
  }

 private:
  void open_shards(const json& weight_map) {
    for (const auto& [name, file] : weight_map.items()) {
      const bool plain = file.is_string() && is_plain_name(file.get_ref<const std::string&>());
      if (!plain) {
        fail_format(index_.string(),
                    cat("tensor ", name, " is said to lie in ", file.dump(),
                        ", the plain name of a file in the same folder was expected"),
                    "don't trust this checkpoint");
      }
      shard_ids_.emplace(file.get<std::string>(), 0);
    }
    for (auto& [file, id] : shard_ids_) {
      const fs::path path = index_.parent_path() / file;
      std::error_code unreadable;  // also of a name too long for the file system
      if (!fs::is_regular_file(path, unreadable)) {
        fail_format(path.string(),
                    cat("this shard is named in ", index_.filename().string(),
                        " but there is no such file"),
                    "copy or download it");
      }
      id = shards_.size();
      shards_.push_back(open_one_file(path));
    }
  }

  void add_listed(const json& weight_map) {
    for (const auto& [name, file] : weight_map.items()) {
      const size_t shard = shard_ids_.at(file.get_ref<const std::string&>());
      if (shards_[shard]->find(name) == nullptr) {
        fail_format(shards_[shard]->describe(),
                    cat("tensor ", name, " is missing: ", index_.filename().string(),
                        " says that this shard holds it"));
      }
      shard_of_[name] = shard;
    }
  }

  // transformers loads all that a shard holds, listed or not; so do we, if there is no doubt which.
  void add_unlisted() {
    const auto listed = shard_of_;
    for (size_t shard = 0; shard < shards_.size(); ++shard) {
      for (const auto& info : shards_[shard]->tensors()) {
        if (listed.contains(info.name)) continue;
        const auto [it, inserted] = shard_of_.emplace(info.name, shard);
        if (!inserted) {
          fail_format(index_.string(),
                      cat("tensor ", info.name, " lies in ", shards_[it->second]->describe(),
                          " and in ", shards_[shard]->describe(), ", and the index names neither"));
        }
      }
    }
  }

  fs::path index_;
  std::map<std::string, size_t> shard_ids_;
  std::vector<std::unique_ptr<TensorSource>> shards_;
  std::map<std::string, size_t> shard_of_;
  std::vector<TensorInfo> infos_;
};

std::unique_ptr<TensorSource> open_weights(const fs::path& file) {
  if (file.filename().string().ends_with(kIndexSuffix)) {
    return std::make_unique<ShardedSource>(file);
  }
  return open_one_file(file);
}

[[noreturn]] void fail_no_weights(const fs::path& folder) {
  std::vector<std::string> names(std::begin(kWeightFiles), std::end(kWeightFiles));
  const bool meta = fs::exists(folder / "consolidated.00.pth");
  fail_format(
      folder.string(), cat("the folder holds no weights: none of ", join(names, ", ")),
      meta ? "it has Meta's layout: `llama2zh convert --to hf` makes a model folder of it" : "");
}

}  // namespace

std::unique_ptr<TensorSource> open_tensors(const fs::path& folder_or_file) {
  std::error_code error;
  const auto status = fs::status(folder_or_file, error);
  if (!fs::exists(status)) fail_io(folder_or_file.string(), "no such file or folder");
  if (!fs::is_directory(status)) return open_weights(folder_or_file);
  std::vector<std::string> present;
  for (const char* name : kWeightFiles) {
    if (fs::exists(folder_or_file / name)) present.emplace_back(name);
  }
  if (present.empty()) fail_no_weights(folder_or_file);
  if (present[0] == "model.safetensors" && present.size() > 1 && present[1] == kWeightFiles[1]) {
    log_warning(cat((folder_or_file / present[0]).string(), ": read instead of the shards that ",
                    present[1], " lists"));
  }
  return open_weights(folder_or_file / present[0]);
}

}  // namespace llama2zh
