#pragma once

#include <string_view>

namespace llama2zh {

// The files of jieba 0.42.1 that the build embeds (cmake/EmbedWords.cmake), each one zstd frame.
struct WordData {
  std::string_view dictionary;          // dict.txt: "word frequency tag" a line
  std::string_view start, trans, emit;  // finalseg/prob_*.py: "P={...}", log-probabilities
};
WordData compressed_word_data();

}  // namespace llama2zh
