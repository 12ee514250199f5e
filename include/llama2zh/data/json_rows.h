#pragma once

#include <memory>
#include <string>

#include "llama2zh/base/json.h"

namespace llama2zh {

class RowFile;
struct RawRow;

// The rows of a file of JSON lines or of one JSON array, whatever it is called, also .gz or .zst, one
// after the other in bounded memory. Blank lines are no rows. An array that does not reach its end is
// a kFormat error.
class JsonRows {
 public:
  explicit JsonRows(const std::string& path);
  ~JsonRows();
  JsonRows(JsonRows&&) noexcept;
  JsonRows& operator=(JsonRows&&) noexcept;

  bool next();                // false at the end
  json row() const;           // the current row, an object; else kData with file, line and column
  std::string where() const;  // of the current row, "file:line"

 private:
  std::string path_;
  std::unique_ptr<RowFile> file_;
  std::unique_ptr<RawRow> raw_;
};

int64_t count_json_rows(const std::string& path);

}  // namespace llama2zh
