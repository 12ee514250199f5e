#pragma once

namespace llama2zh {

// How many bytes a second all threads of the pool read from memory together: the best of a few
// passes over 512 MiB, in slices of 32 MiB, in about 0.2 s. The limit of products with few rows.
double measure_memory_rate();

}  // namespace llama2zh
