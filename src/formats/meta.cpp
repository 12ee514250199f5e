// Reading Meta's folder: params.json and consolidated.NN.pth, torch.save zips of tensors under the
// names of Meta's own code. Each part holds one model-parallel rank's share: rows of wq wk wv w1 w3
// output, columns of wo w2 tok_embeddings, a copy of each norm. All parts' headers are compared
// with params.json at once; load() joins one tensor at a time.
#include "llama2zh/formats/meta.h"

#include <ATen/ops/cat.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <system_error>

#include "formats/dtype.h"
#include "formats/meta_params.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

namespace {

constexpr std::string_view kMetaPartPrefix = "consolidated.";
constexpr std::string_view kMetaPartSuffix = ".pth";
constexpr int64_t kMaxMetaDimension = int64_t{1} << 32;
constexpr const char* kMetaParamsName = "params.json";

// The NN of "consolidated.NN.pth"; -1 for any other name.
int meta_part_number(std::string_view name) {
  if (!name.starts_with(kMetaPartPrefix) || !name.ends_with(kMetaPartSuffix)) return -1;
  name.remove_prefix(kMetaPartPrefix.size());
  if (name.size() != kMetaPartSuffix.size() + 2) return -1;
  int number = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + 2, number);
  return error == std::errc() && end == name.data() + 2 ? number : -1;
}

std::set<int> meta_part_numbers(const std::filesystem::path& folder) {
  std::set<int> numbers;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (const int number = meta_part_number(it->path().filename().string()); number >= 0) {
      numbers.insert(number);
    }
  }
  return numbers;
}

bool is_ignored_meta_tensor(std::string_view name) {
  return name == "rope.freqs" || name.ends_with(".rope.freqs");
}

using MetaParts = std::vector<std::unique_ptr<TensorSource>>;

MetaParts open_meta_parts(const std::filesystem::path& folder) {
  const std::set<int> numbers = meta_part_numbers(folder);
  if (numbers.empty()) fail_format(folder.string(), "holds no consolidated.NN.pth");
  MetaParts parts;
  for (int number = 0; number <= *numbers.rbegin(); ++number) {
    const std::string name = meta_part_name(number);
    if (!numbers.count(number)) {
      fail_format(folder.string(),
                  cat(name, " is missing, but ", meta_part_name(*numbers.rbegin()), " is there"),
                  "copy all parts of the model");
    }
    parts.push_back(open_torch_zip(folder / name));
  }
  return parts;
}

class MetaCheckpoint : public ForeignCheckpoint {
 public:
  explicit MetaCheckpoint(const std::filesystem::path& folder);

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  at::Tensor load(std::string_view name) const override;
  std::string describe() const override {
    return parts_.size() == 1 ? cat(meta_part_name(0), " in ", folder_)
                              : cat(parts_.size(), " parts in ", folder_);
  }
  const ordered_json& config() const override { return config_; }

 private:
  at::ScalarType check_tensor(const MetaTensor& tensor) const;
  void check_share(const MetaTensor& tensor, const TensorInfo& info, size_t part) const;
  void check_names(const std::vector<MetaTensor>& all) const;

  std::string folder_;
  MetaParts parts_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, MetaTensor, std::less<>> by_name_;
  ordered_json config_;
};

MetaCheckpoint::MetaCheckpoint(const std::filesystem::path& folder) : folder_(folder.string()) {
  LlamaShape shape = read_meta_params(folder / kMetaParamsName);
  parts_ = open_meta_parts(folder);
  const TensorSource& first = *parts_.front();
  if (shape.layers > static_cast<int64_t>(first.tensors().size())) {
    fail_format((folder / kMetaParamsName).string(),
                cat("n_layers is ", shape.layers, ", but ", first.describe(), " has only ",
                    first.tensors().size(), " tensors"));
  }
  const TensorInfo& embedding = first.require("tok_embeddings.weight");
  if (shape.vocab == -1 && embedding.shape.size() == 2) shape.vocab = embedding.shape[0];
  check_llama_shape(shape, first.describe());

  const std::vector<MetaTensor> all = meta_tensors(shape);
  check_names(all);
  for (const MetaTensor& tensor : all) {
    infos_.push_back({tensor.hf, check_tensor(tensor), tensor.shape});
    by_name_.emplace(tensor.hf, tensor);
  }
  std::sort(infos_.begin(), infos_.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  config_ = llama_config_json(shape, embedding.dtype);
}

// No part may hold what we would not read: a weight of another architecture, a further layer.
void MetaCheckpoint::check_names(const std::vector<MetaTensor>& all) const {
  std::set<std::string_view> known;
  for (const MetaTensor& tensor : all) known.insert(tensor.meta);
  for (const auto& part : parts_) {
    for (const TensorInfo& info : part->tensors()) {
      if (!known.count(info.name) && !is_ignored_meta_tensor(info.name)) {
        fail_format(part->describe(), cat("tensor ", info.name, " has no place in the model that ",
                                          kMetaParamsName, " describes"));
      }
    }
  }
}

at::ScalarType MetaCheckpoint::check_tensor(const MetaTensor& tensor) const {
  const TensorInfo& first = parts_.front()->require(tensor.meta);
  for (size_t part = 0; part < parts_.size(); ++part) {
    const TensorInfo& info = parts_[part]->require(tensor.meta);
    if (info.shape != first.shape || info.dtype != first.dtype) {
      fail_format(parts_[part]->describe(),
                  cat(tensor.meta, " is ", dtype_names(info.dtype)->torch, " ",
                      shape_text(info.shape), ", but ", parts_.front()->describe(), " has ",
                      dtype_names(first.dtype)->torch, " ", shape_text(first.shape)),
                  "the parts belong to different models");
    }
    check_share(tensor, info, part);
  }
  if (!at::isFloatingType(first.dtype)) {
    fail_format(parts_.front()->describe(),
                cat(tensor.meta, " has type ", dtype_names(first.dtype)->torch,
                    ", expected a floating-point type"));
  }
  return first.dtype;
}

void MetaCheckpoint::check_share(const MetaTensor& tensor, const TensorInfo& info,
                                 size_t part) const {
  const auto count = static_cast<int64_t>(parts_.size());
  std::vector<int64_t> joined = info.shape;
  if (joined.size() == tensor.shape.size() && tensor.parts != MetaTensor::Parts::kCopies) {
    int64_t& divided = joined[tensor.parts == MetaTensor::Parts::kRows ? 0 : 1];
    // A header may claim any size (of a tensor without elements): the product must not overflow.
    divided = divided <= kMaxMetaDimension ? divided * count : -1;
  }
  if (joined != tensor.shape) {
    fail_format(parts_[part]->describe(),
                cat(tensor.meta, " has shape ", shape_text(info.shape), " in each of ", count,
                    count == 1 ? " part" : " parts", ", but ", kMetaParamsName, " asks for ",
                    shape_text(tensor.shape), " in all"),
                "a part is missing, or params.json belongs to another model");
  }
}

at::Tensor MetaCheckpoint::load(std::string_view name) const {
  require(name);
  const MetaTensor& tensor = by_name_.find(name)->second;
  at::Tensor whole;
  if (parts_.size() == 1 || tensor.parts == MetaTensor::Parts::kCopies) {
    whole = parts_.front()->load(tensor.meta);
  } else {
    std::vector<at::Tensor> shares;
    for (const auto& part : parts_) shares.push_back(part->load(tensor.meta));
    whole = at::cat(shares, tensor.parts == MetaTensor::Parts::kRows ? 0 : 1);
  }
  return tensor.heads > 0 ? permute_meta_to_hf(whole, tensor.heads) : whole;
}

}  // namespace

std::string meta_part_name(int number) {
  return cat(kMetaPartPrefix, number < 10 ? "0" : "", number, kMetaPartSuffix);
}

bool is_meta_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path / kMetaParamsName, ignored) &&
         !meta_part_numbers(path).empty();
}

std::unique_ptr<ForeignCheckpoint> open_meta_checkpoint(const std::filesystem::path& folder) {
  return std::make_unique<MetaCheckpoint>(folder);
}

}  // namespace llama2zh
