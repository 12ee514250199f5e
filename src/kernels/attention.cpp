// Attention of packed sequences in bfloat16 has a kernel of its own on CPUs (flash_tiles.h), twice as
// fast as libtorch's on blocks and more on short rows. All else goes through libtorch's
// scaled_dot_product_attention, which picks a flash kernel for CPU and CUDA tensors: packed sequences
// are cut at their boundaries; neighbours of equal length (blocks of pretraining text) go as one
// batch.
#include "llama2zh/kernels/attention.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>

#include "kernels/flash_tiles.h"
#include "llama2zh/kernels/product.h"

namespace llama2zh {
namespace {

// [B * L, heads, d] -> [B, heads, L, d], without a copy.
at::Tensor heads_first(const at::Tensor& x, int64_t batch) {
  return x.view({batch, x.size(0) / batch, x.size(1), x.size(2)}).transpose(1, 2);
}

// Rows first .. first + batch * length - 1: `batch` sequences of `length` tokens.
at::Tensor attend_equal_lengths(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                int64_t first, int64_t batch, int64_t length) {
  const int64_t rows = batch * length;
  const at::Tensor out = at::scaled_dot_product_attention(
      heads_first(q.narrow(0, first, rows), batch), heads_first(k.narrow(0, first, rows), batch),
      heads_first(v.narrow(0, first, rows), batch), /*attn_mask=*/{}, /*dropout_p=*/0.0,
      /*is_causal=*/length > 1, /*scale=*/{}, /*enable_gqa=*/q.size(1) != k.size(1));
  return out.transpose(1, 2).reshape({rows, q.size(1), q.size(2)});
}

class FlashAttentionFunction : public torch::autograd::Function<FlashAttentionFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& queries,
                            const at::Tensor& keys, const at::Tensor& values,
                            const std::vector<int64_t>& boundaries) {
    const at::Tensor q = queries.contiguous(), k = keys.contiguous(), v = values.contiguous();
    FlashOutput result = flash_attention(q, k, v, boundaries);
    ctx->save_for_backward({q, k, v, result.out, result.lse});
    ctx->saved_data["boundaries"] = boundaries;
    return result.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    FlashGradients result =
        flash_attention_backward(grads[0].contiguous(), saved[0], saved[1], saved[2],
                                 {saved[3], saved[4]}, ctx->saved_data["boundaries"].toIntVector());
    return {result.q, result.k, result.v, at::Tensor()};
  }
};

void check_boundaries(const std::vector<int64_t>& boundaries, int64_t tokens) {
  TORCH_CHECK(boundaries.size() >= 2 && boundaries.front() == 0 && boundaries.back() == tokens,
              "packed_attention: boundaries must run from 0 to the number of tokens");
  const auto empty =
      std::adjacent_find(boundaries.begin(), boundaries.end(), std::greater_equal<>());
  TORCH_CHECK(empty == boundaries.end(), "packed_attention: sequence ", empty - boundaries.begin(),
              " is empty");
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, const std::vector<int64_t>& boundaries) {
  const at::ScalarType type = product_type(queries);
  const at::Tensor q = queries.to(type), k = keys.to(type), v = values.to(type);
  check_boundaries(boundaries, q.size(0));
  if (has_flash_tiles(q)) return FlashAttentionFunction::apply(q, k, v, boundaries);
  std::vector<at::Tensor> parts;
  const size_t count = boundaries.size() - 1;
  for (size_t i = 0; i < count;) {
    const int64_t length = boundaries[i + 1] - boundaries[i];
    size_t end = i + 1;
    while (end < count && boundaries[end + 1] - boundaries[end] == length) ++end;
    parts.push_back(
        attend_equal_lengths(q, k, v, boundaries[i], static_cast<int64_t>(end - i), length));
    i = end;
  }
  return (parts.size() == 1 ? parts.front() : at::cat(parts, 0)).to(queries.scalar_type());
}

}  // namespace llama2zh
