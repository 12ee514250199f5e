#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace llama2zh {

// Causal attention of sequences laid end to end; none sees another. q [T, nq, d], k and v [T, nk,
// d] with nq a multiple of nk (grouped queries); sequence i owns rows boundaries[i] ..
// boundaries[i+1]-1, boundaries.front() = 0, boundaries.back() = T. -> [T, nq, d]. Scale 1/sqrt(d).
// Differentiable.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::vector<int64_t>& boundaries);

}  // namespace llama2zh
