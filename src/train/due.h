#pragma once

#include <cstdint>

namespace llama2zh {

// Whether what happens every so many steps happens after this one; 0: never.
inline bool is_due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }

}  // namespace llama2zh
