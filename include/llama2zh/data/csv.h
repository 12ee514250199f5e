#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

struct CsvRow {
  std::vector<std::string> fields;
  int64_t line = 0;  // of its beginning in the file, from 1
};

// A CSV text as RFC 4180 and pandas.read_csv read it: fields between commas, in quotes where they hold
// commas, quotes ("" is one) or ends of lines; rows end with \n, \r\n or \r; a byte order mark is
// skipped, and so are empty lines. A quote inside an unquoted field is a character. Nothing is trimmed,
// nothing becomes a number. kFormat naming file and line for a quoted field that does not end or is
// followed by text and for rows of other lengths than the first.
std::vector<CsvRow> parse_csv(std::string_view text, const std::string& where);
// .gz and .zst too; kData for text that is not UTF-8.
std::vector<CsvRow> read_csv(const std::filesystem::path& path);

// The row as one line: fields that need it are quoted; with \n.
std::string csv_line(const std::vector<std::string>& fields);

}  // namespace llama2zh
