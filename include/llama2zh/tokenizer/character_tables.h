#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// A national standard's table of Chinese characters, each as UTF-8.
struct CharacterTable {
  std::string name, meaning;
  std::vector<std::string> characters;
};

// GB 2312's level 1 (3,755 common simplified characters) and level 2 (3,008 less common), Big5's level 1
// (5,401 frequent traditional characters) and level 2 (7,652): the rows of the encodings' code tables
// that the standards give to each level, through iconv. kIo if iconv lacks an encoding.
const std::vector<CharacterTable>& character_tables();

// How many characters of the table are one token inside a text, and not a byte or unknown.
int64_t covered_characters(const CharacterTable& table, const Tokenizer& tokenizer);

}  // namespace llama2zh
