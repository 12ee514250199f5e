// What all sources share: sizes, and lookup by name in the sorted list.
#include "llama2zh/formats/tensor_source.h"

#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

int64_t TensorInfo::numel() const {
  int64_t count = 1;
  for (int64_t dim : shape) count *= dim;
  return count;
}

uint64_t TensorInfo::bytes() const {
  return static_cast<uint64_t>(numel()) * c10::elementSize(dtype);
}

const TensorInfo* TensorSource::find(std::string_view name) const {
  const auto& all = tensors();
  const auto it = std::lower_bound(
      all.begin(), all.end(), name,
      [](const TensorInfo& info, std::string_view wanted) { return info.name < wanted; });
  return it != all.end() && it->name == name ? &*it : nullptr;
}

const TensorInfo& TensorSource::require(std::string_view name) const {
  if (const TensorInfo* info = find(name)) return *info;
  std::vector<std::string> names;
  for (const auto& info : tensors()) names.push_back(info.name);
  const auto near = nearest(name, names);
  fail_format(describe(), cat("there is no tensor ", name, " among its ", names.size()),
              near.empty() ? "" : cat("the nearest name is ", near));
}

}  // namespace llama2zh
