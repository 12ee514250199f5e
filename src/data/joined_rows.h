#pragma once

#include <memory>
#include <vector>

#include "llama2zh/data/row_source.h"

namespace llama2zh {

// The rows of several sources, one source behind the other.
std::shared_ptr<const RowSource> join_rows(std::vector<std::shared_ptr<const RowSource>> sources);

}  // namespace llama2zh
