// The gradient of an embedding has a row for each token of the vocabulary, and a micro-batch touches
// few of them. An all-reduce (ring) moves about 2 V rows through each rank, an all-gather of at most
// R rows from each of N ranks N R. Gathered rows are added up in the order of the ranks everywhere.
#include "llama2zh/distributed/row_sync.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

namespace llama2zh {

bool sum_touched_rows(ProcessGroup& group, at::Tensor& gradient, const at::Tensor& touched,
                      const std::string& what) {
  const at::NoGradGuard no_grad;
  const int64_t vocabulary = gradient.size(0);
  const at::Tensor own = at::full({1}, touched.numel(), at::kLong);
  const at::Tensor counts = group.all_gather(own, what);
  const int64_t most = counts.max().item<int64_t>();
  if (group.size() * most >= vocabulary) {
    group.all_reduce(gradient, what);
    return false;
  }
  at::Tensor ids = at::zeros({most}, touched.options());
  at::Tensor rows = at::zeros({most, gradient.size(1)}, gradient.options());
  ids.narrow(0, 0, touched.numel()).copy_(touched);
  rows.narrow(0, 0, touched.numel()).copy_(gradient.index_select(0, touched));
  const at::Tensor all_ids = group.all_gather(ids, what);
  const at::Tensor all_rows = group.all_gather(rows, what);
  gradient.index_fill_(0, touched, 0);
  for (int64_t rank = 0; rank < group.size(); ++rank) {
    const int64_t count = counts[rank][0].item<int64_t>();
    gradient.index_add_(0, all_ids[rank].narrow(0, 0, count), all_rows[rank].narrow(0, 0, count));
  }
  return true;
}

}  // namespace llama2zh
