#pragma once

#include <cstdint>
#include <vector>

#include "llama2zh/data/loader.h"

namespace llama2zh {

// How many blocks an epoch takes of each source, given how many each makes. kUsage if the shares do
// not go together, kData if a source of several makes no block.
std::vector<int64_t> blocks_in_epoch(const std::vector<MixedRows>& sources,
                                     const std::vector<int64_t>& blocks, int64_t block_size);

}  // namespace llama2zh
