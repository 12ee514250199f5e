// Adapters by rows, as S-LoRA and Punica (2023) group a batch: the base product is one for all
// rows, the narrow products are formed for the rows of each adapter apart.
#include "llama2zh/nn/row_adapters.h"

#include <ATen/TensorOperators.h>
#include <c10/util/Exception.h>

#include <utility>

#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

const std::vector<AdapterGroup> kNoGroups;
thread_local const std::vector<AdapterGroup>* active_groups = &kNoGroups;

}  // namespace

RowAdapters::RowAdapters(std::vector<AdapterGroup> groups)
    : groups_(std::move(groups)), before_(active_groups) {
  active_groups = &groups_;
}
RowAdapters::~RowAdapters() { active_groups = before_; }
const std::vector<AdapterGroup>& RowAdapters::active() { return *active_groups; }

void add_row_adapters(const Linear& linear, const at::Tensor& x, at::Tensor& y) {
  for (const AdapterGroup& group : *active_groups) {
    const auto found = group.adapter->loras.find(&linear);
    if (found == group.adapter->loras.end()) continue;
    const Lora& lora = found->second;
    const at::ScalarType type = x.scalar_type();
    TORCH_CHECK(x.dim() == 2, "add_row_adapters: x must be [T, in]");
    const at::Tensor input = x.index_select(0, group.rows);
    const at::Tensor low = linear_product(input, lora.a.to(type)).mul_(lora.scaling);
    at::Tensor rows = y.index_select(0, group.rows);
    rows.add_(linear_product(low, lora.b.to(type)));
    if (lora.magnitude.defined()) rows.mul_((lora.magnitude / lora.weight_norm).to(type));
    y.index_copy_(0, group.rows, rows);
  }
}

}  // namespace llama2zh
