#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/engine/grammar.h"

namespace llama2zh {

// What ? * + {m} {m,} {m,n} say; most -1: no limit.
struct Repetition {
  int64_t least = 1, most = 1;
};

// Reads one at `at`, which then stands behind it; nothing where none is. `fail` is told what is wrong
// with one and does not return.
std::optional<Repetition> read_repetition(const std::vector<char32_t>& text, size_t& at,
                                          const std::function<void(const std::string&)>& fail);

// `once` makes the part anew each time, so that each repetition has states of its own.
Grammar::Part repeat(Grammar& grammar, const Repetition& times,
                     const std::function<Grammar::Part()>& once);

}  // namespace llama2zh
