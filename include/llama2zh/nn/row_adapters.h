#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <unordered_map>
#include <vector>

#include "llama2zh/nn/linear.h"

namespace llama2zh {

// What one adapter puts on a model beside the model itself, so that rows of one batch can have
// different ones: updates by the Linear they belong to, and matrices in place of the model's.
struct RowAdapter {
  std::unordered_map<const Linear*, Lora> loras;  // A, B in the type computed in
  at::Tensor embed_tokens, lm_head;               // [V, H]; undefined: the model's
};

// The rows of a batch that one adapter answers for.
struct AdapterGroup {
  std::shared_ptr<const RowAdapter> adapter;
  at::Tensor rows;  // [n] int64, rising, on the model's device
};

// While one lives, forward passes of this thread take its groups' updates on its groups' rows; rows
// in no group are the model's own. For inference alone: no gradient, and every Linear must get the
// rows in the order that the groups count in.
class RowAdapters {
 public:
  explicit RowAdapters(std::vector<AdapterGroup> groups);
  ~RowAdapters();
  RowAdapters(const RowAdapters&) = delete;
  RowAdapters& operator=(const RowAdapters&) = delete;
  static const std::vector<AdapterGroup>& active();  // empty where none lives

 private:
  std::vector<AdapterGroup> groups_;
  const std::vector<AdapterGroup>* before_;
};

// The active adapters' updates of `linear` onto y = linear(x), both [T, .] in one type, in place. A
// row's result does not depend on other adapters' rows.
void add_row_adapters(const Linear& linear, const at::Tensor& x, at::Tensor& y);

}  // namespace llama2zh
