#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace llama2zh {

enum class RowInit { kSubpiece, kMean, kNormal };
RowInit parse_row_init(const std::string& name);

// old [V0, H] grown to V0 + sub_pieces.size() rows, same type; computed in fp32. New row i:
//   kSubpiece  mean of the old rows of the pieces that its text encoded to before: sub_pieces[i], ids < V0
//   kMean      mean of all old rows and a trace of noise (Hugging Face's mean resizing)
//   kNormal    N(0, initializer_range): the original system's way
at::Tensor grow_rows(const at::Tensor& old, const std::vector<std::vector<int32_t>>& sub_pieces,
                     RowInit init, double initializer_range, uint64_t seed);

}  // namespace llama2zh
