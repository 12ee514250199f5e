#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "llama2zh/base/json.h"

namespace llama2zh {

// One row as it stands in its file, or a part of a long text.
struct RawRow {
  std::string text;
  int64_t line = 1, column = 1;     // of its first character
  bool is_json = true;              // false: `text` is the text itself
  bool numbered = true;             // errors name the line; false for a text that is a whole file
  bool begins = true, ends = true;  // false: a part of a text; others come before or follow
};

// How a .txt becomes documents: the whole file is one, paragraphs between blank lines are, or lines.
enum class TextDocuments { kWhole, kBlankLines, kLines };

struct TextOptions {
  TextDocuments documents = TextDocuments::kWhole;
  // A whole text longer than this comes in parts of about so many bytes, each cut behind a newline;
  // 0: never in parts.
  size_t part_bytes = 0;
};

// Reads a data file row by row in bounded memory: .txt (UTF-8 checked, \r\n made \n; in memory as a
// whole unless parts are allowed), a JSON array, or JSON lines; each also .gz or .zst. Array and
// lines are told apart by the first character, whatever the file is called.
class RowFile {
 public:
  // kUsage for an extension that is not known.
  static std::unique_ptr<RowFile> open(const std::string& path, const TextOptions& options = {});
  virtual ~RowFile() = default;
  // False at the end. A file that is not an array to its end is a kFormat error; what stands in a
  // row is not looked at here.
  virtual bool next(RawRow& row) = 0;
  virtual uint64_t consumed() const = 0;  // bytes of the file used so far
};

// JSON lines or an array, whatever the file is called.
std::unique_ptr<RowFile> open_json_file(const std::string& path);
// Of a .txt (text_file.cpp).
std::unique_ptr<RowFile> open_text_file(const std::string& path, const TextOptions& options);
// kUsage unless it is whole, blank_lines or lines.
TextDocuments parse_text_documents(const std::string& name);

bool is_blank(std::string_view text);

// The file name's extension without .gz or .zst: ".json".
std::string data_extension(std::string_view path);
bool is_data_file(std::string_view path);

// The row's JSON object. Errors are kData and name file, line and column.
json parse_row(const RawRow& row, std::string_view file);
// "file:line", or "file" for a text that is a whole file.
std::string row_place(const RawRow& row, std::string_view file);

}  // namespace llama2zh
