#pragma once

#include <ATen/ops/tensor.h>

#include <map>
#include <memory>
#include <vector>

#include "llama2zh/engine/adapter_registry.h"
#include "llama2zh/nn/row_adapters.h"

namespace llama2zh {

// Collects which rows of a batch belong to which adapter.
class AdapterGroups {
 public:
  // The next `count` rows; null: the model's own.
  void add(const std::shared_ptr<const NamedAdapter>& adapter, int64_t count) {
    if (adapter) {
      std::vector<int64_t>& rows = rows_[adapter->weights];
      for (int64_t i = 0; i < count; ++i) rows.push_back(next_ + i);
    }
    next_ += count;
  }
  std::vector<AdapterGroup> groups(at::Device device) const {
    std::vector<AdapterGroup> out;
    for (const auto& [adapter, rows] : rows_)
      out.push_back({adapter, at::tensor(rows, at::kLong).to(device)});
    return out;
  }

 private:
  std::map<std::shared_ptr<const RowAdapter>, std::vector<int64_t>> rows_;
  int64_t next_ = 0;
};

}  // namespace llama2zh
