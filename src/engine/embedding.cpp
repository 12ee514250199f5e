// Embeddings: hidden states are added up in float64 as the chunks of a prompt come, so that chunks
// make no difference.
#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/sum.h>

#include "engine/request_state.h"
#include "llama2zh/base/error.h"

namespace llama2zh {

void pool_hidden(Sequence& sequence, const at::Tensor& hidden, bool begins) {
  const bool mean = sequence.request->request.kind == RequestKind::kMeanEmbedding;
  const at::Tensor rows = mean ? hidden : hidden.narrow(0, hidden.size(0) - 1, 1);
  const at::Tensor sum = rows.to(at::kCPU, at::kDouble).sum(0);
  sequence.pooled = mean && !begins ? sequence.pooled + sum : sum;
}

void finish_embedding(Sequence& sequence) {
  RequestState& owner = *sequence.request;
  at::Tensor pooled = sequence.pooled;
  if (owner.request.kind == RequestKind::kMeanEmbedding)
    pooled = pooled / static_cast<double>(sequence.tokens.size());
  if (!at::isfinite(pooled).all().item<bool>()) {
    fail_data("embedding", "the model's hidden states are not finite numbers",
              "check the weights with `llama2zh inspect`, or try --dtype float32");
  }
  if (owner.request.normalize) pooled = pooled / pooled.norm().clamp_min(1e-12);
  const at::Tensor values = pooled.to(at::kFloat).contiguous();
  const float* data = values.const_data_ptr<float>();
  owner.result.embedding.assign(data, data + values.numel());
}

}  // namespace llama2zh
