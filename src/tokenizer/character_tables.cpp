// GB 2312-80: rows 16 to 55 are level 1 (by pronunciation), 56 to 87 level 2 (by radical); in EUC-CN both
// bytes have 0xA0 added. Big5 (1984): 0xA440 to 0xC67E is level 1, 0xC940 to 0xF9D5 level 2.
#include "llama2zh/tokenizer/character_tables.h"

#include <iconv.h>

#include <cerrno>

#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

class Converter {
 public:
  explicit Converter(const char* encoding) : handle_(iconv_open("UTF-8", encoding)) {
    // iconv_open's error value is (iconv_t)-1; NOLINTNEXTLINE(performance-no-int-to-ptr)
    if (handle_ == reinterpret_cast<iconv_t>(-1))
      fail_io(encoding, "iconv does not know this encoding", errno);
  }
  ~Converter() { iconv_close(handle_); }
  Converter(const Converter&) = delete;
  Converter& operator=(const Converter&) = delete;

  // "" where the table has no character.
  std::string character(unsigned code) const {
    char in[2] = {static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
    char out[8];
    char* from = in;
    char* to = out;
    size_t from_size = sizeof in, to_size = sizeof out;
    iconv(handle_, nullptr, nullptr, nullptr, nullptr);
    if (iconv(handle_, &from, &from_size, &to, &to_size) != 0) return {};
    return {out, to};
  }

 private:
  iconv_t handle_;
};

CharacterTable read_table(std::string name, std::string meaning, const char* encoding,
                          unsigned first, unsigned last) {
  const Converter converter(encoding);
  CharacterTable table{std::move(name), std::move(meaning), {}};
  for (unsigned code = first; code <= last; ++code) {
    const unsigned low = code & 0xFF;
    if (low < 0x40 || (low > 0x7E && low < 0xA1) || low == 0xFF) continue;
    std::string character = converter.character(code);
    const std::vector<char32_t> points = utf8_to_codepoints(character);
    if (points.size() == 1 && is_han(points[0])) table.characters.push_back(std::move(character));
  }
  return table;
}

}  // namespace

const std::vector<CharacterTable>& character_tables() {
  static const std::vector<CharacterTable> tables = {
      read_table("gb2312_level1", "common simplified characters", "GB2312", 0xB0A1, 0xD7FE),
      read_table("gb2312_level2", "less common simplified characters", "GB2312", 0xD8A1, 0xF7FE),
      read_table("big5_level1", "frequent traditional characters", "BIG5", 0xA440, 0xC67E),
      read_table("big5_level2", "less frequent traditional characters", "BIG5", 0xC940, 0xF9D5)};
  return tables;
}

int64_t covered_characters(const CharacterTable& table, const Tokenizer& tokenizer) {
  int64_t covered = 0;
  std::vector<TokenId> ids;
  for (const std::string& character : table.characters) {
    ids.clear();
    tokenizer.encode_append(character, /*dummy_prefix=*/false, ids);
    // An unknown character would be one token too.
    if (ids.size() == 1 && !tokenizer.is_special(ids[0])) ++covered;
  }
  return covered;
}

}  // namespace llama2zh
