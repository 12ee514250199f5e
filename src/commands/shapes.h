#pragma once

#include <string>
#include <vector>

#include "llama2zh/model/llama_config.h"

namespace llama2zh {

// Shapes that benchmarks and the memory planner know by name, with the vocabulary of 49,953:
// 7b, 13b; 7b-layer and 13b-layer (one layer of them); m13 (4 layers of 7B) and m135 (30 small ones
// with grouped queries), those of the benchmarks; tiny.
const std::vector<std::string>& shape_names();
LlamaConfig named_shape(const std::string& name);

}  // namespace llama2zh
