// New rows for embed_tokens and lm_head after the vocabulary has grown.
//
// kMean follows Hugging Face's mean resizing (transformers,
// _init_added_embeddings_weights_with_mean), which draws from a normal with the old rows' mean and
// 1e-9 times their covariance. Here the covariance's diagonal is taken: at that factor (a 30,000th
// of a standard deviation) the rows are the mean for every purpose, and no [H, H] factorisation is
// needed.
#include "llama2zh/model/resize.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

at::Tensor mean_of_rows(const at::Tensor& old, const std::vector<int32_t>& ids) {
  if (ids.empty())
    fail_data("resize", "a new piece has no old pieces", "this is a defect of the sub-piece table");
  const at::Tensor index = at::tensor(std::vector<int64_t>(ids.begin(), ids.end()));
  return old.index_select(0, index).to(at::kFloat).mean(0);
}

}  // namespace

RowInit parse_row_init(const std::string& name) {
  if (name == "subpiece") return RowInit::kSubpiece;
  if (name == "mean") return RowInit::kMean;
  if (name == "normal") return RowInit::kNormal;
  fail_usage("--init", cat("\"", name, "\" is not a way to start new rows"),
             "one of subpiece, mean, normal");
}

at::Tensor grow_rows(const at::Tensor& old, const std::vector<std::vector<int32_t>>& sub_pieces,
                     RowInit init, double initializer_range, uint64_t seed) {
  const int64_t old_rows = old.size(0);
  const int64_t width = old.size(1);
  const auto added = static_cast<int64_t>(sub_pieces.size());
  at::Tensor grown = at::empty({old_rows + added, width}, old.options());
  grown.narrow(0, 0, old_rows).copy_(old);
  if (added == 0) return grown;

  at::Tensor fresh = at::empty({added, width}, old.options().dtype(at::kFloat));
  if (init == RowInit::kSubpiece) {
    for (int64_t i = 0; i < added; ++i)
      fresh[i].copy_(mean_of_rows(old, sub_pieces[static_cast<size_t>(i)]));
  } else {
    const at::Generator generator = at::detail::createCPUGenerator(seed);
    fresh.copy_(at::randn({added, width}, generator, fresh.options()));
    if (init == RowInit::kNormal) {
      fresh.mul_(initializer_range);
    } else {
      const at::Tensor rows = old.to(at::kFloat);
      fresh.mul_(rows.std(0)).mul_(std::sqrt(1e-9)).add_(rows.mean(0));
    }
  }
  grown.narrow(0, old_rows, added).copy_(fresh);
  return grown;
}

}  // namespace llama2zh
