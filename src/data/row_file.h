#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "llama2zh/base/json.h"

namespace llama2zh {

// One row as it stands in its file.
struct RawRow {
  std::string text;
  int64_t line = 1, column = 1;  // of its first character
  bool is_json = true;           // false: `text` is the text itself
};

// Reads a data file row by row in bounded memory: .txt (one row: the whole text, UTF-8 checked,
// \r\n made \n), a JSON array, or JSON lines; each also .gz or .zst. Array and lines are told apart
// by the first character, whatever the file is called.
class RowFile {
 public:
  // kUsage for an extension that is not known.
  static std::unique_ptr<RowFile> open(const std::string& path);
  virtual ~RowFile() = default;
  // False at the end. A file that is not an array to its end is a kFormat error; what stands in a
  // row is not looked at here.
  virtual bool next(RawRow& row) = 0;
};

// The file name's extension without .gz or .zst: ".json".
std::string data_extension(std::string_view path);
bool is_data_file(std::string_view path);

// The row's JSON object. Errors are kData and name file, line and column.
json parse_row(const RawRow& row, std::string_view file);
// "file:line", or "file" for a row that is a whole file.
std::string row_place(const RawRow& row, std::string_view file);

}  // namespace llama2zh
