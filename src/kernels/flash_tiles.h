#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace llama2zh {

// Causal attention of packed sequences in bfloat16 on a CPU with AVX-512 BF16: FlashAttention-2 (Dao
// 2023) over tiles of 64 x 64, all sequences and heads side by side on the threads. q [T, nq, d], k
// and v [T, nk, d], contiguous, d even; boundaries as in packed_attention().
struct FlashOutput {
  at::Tensor out;  // [T, nq, d]
  at::Tensor lse;  // [nq, T] fp32: log of the sum of e^score of each query
};
FlashOutput flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<int64_t>& boundaries);

struct FlashGradients {
  at::Tensor q, k, v;
};
FlashGradients flash_attention_backward(const at::Tensor& out_grad, const at::Tensor& q,
                                        const at::Tensor& k, const at::Tensor& v,
                                        const FlashOutput& forward,
                                        const std::vector<int64_t>& boundaries);

bool has_flash_tiles(const at::Tensor& q);

}  // namespace llama2zh
