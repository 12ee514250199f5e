#pragma once

#include <filesystem>

#include "formats/llama_shape.h"

namespace llama2zh {

// params.json of Meta's folder as a shape; `vocab` stays -1 where the file leaves it to the
// tokenizer (the embedding then tells it), `tied` is false.
LlamaShape read_meta_params(const std::filesystem::path& file);

// params.json for a shape: a multiple_of and, if need be, an ffn_dim_multiplier are found that
// Meta's formula turns into the intermediate size.
ordered_json meta_params_json(const LlamaShape& shape);

// round_up(int(multiplier * int(8 * dim / 3)), multiple_of), Meta's width of the feed-forward net.
int64_t meta_intermediate_size(int64_t dim, int64_t multiple_of, double multiplier);

std::string meta_part_name(int number);  // 3 -> "consolidated.03.pth"

}  // namespace llama2zh
