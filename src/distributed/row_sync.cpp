// The gradient of an embedding has a row for each token of the vocabulary, and a micro-batch touches
// few of them. An all-reduce (ring) moves 2 V (N - 1) / N rows through each rank, an all-gather of at
// most R rows from each of N ranks R (N - 1): less while N R < 2 V. Where gathered rows would take
// more memory than the matrix they go in parts, some columns at a time. They are added up in the order
// of the ranks everywhere.
#include "llama2zh/distributed/row_sync.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>

namespace llama2zh {

bool sum_touched_rows(ProcessGroup& group, at::Tensor& gradient, const at::Tensor& touched,
                      const std::string& what) {
  const at::NoGradGuard no_grad;
  const int64_t vocabulary = gradient.size(0);
  const at::Tensor own = at::full({1}, touched.numel(), at::kLong);
  const at::Tensor counts = group.all_gather(own, what);
  const int64_t most = counts.max().item<int64_t>();
  if (most == 0) return true;
  const int64_t gathered = group.size() * most;
  if (gathered >= 2 * vocabulary) {
    group.all_reduce(gradient, what);
    return false;
  }
  at::Tensor ids = at::zeros({most}, touched.options());
  ids.narrow(0, 0, touched.numel()).copy_(touched);
  const at::Tensor all_ids = group.all_gather(ids, what);
  const int64_t width = gradient.size(1), parts = gathered > vocabulary ? 2 : 1;
  const int64_t columns = (width + parts - 1) / parts;
  for (int64_t first = 0; first < width; first += columns) {
    at::Tensor part = gradient.narrow(1, first, std::min(columns, width - first));
    at::Tensor rows = at::zeros({most, part.size(1)}, gradient.options());
    rows.narrow(0, 0, touched.numel()).copy_(part.index_select(0, touched));
    const at::Tensor all_rows = group.all_gather(rows, what);
    part.index_fill_(0, touched, 0);
    for (int64_t rank = 0; rank < group.size(); ++rank) {
      const int64_t count = counts[rank][0].item<int64_t>();
      part.index_add_(0, all_ids[rank].narrow(0, 0, count), all_rows[rank].narrow(0, 0, count));
    }
  }
  return true;
}

}  // namespace llama2zh
