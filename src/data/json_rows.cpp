// JsonRows: the rows of row_file.h for the layers above.
#include "llama2zh/data/json_rows.h"

#include "data/row_file.h"

namespace llama2zh {

JsonRows::JsonRows(const std::string& path)
    : path_(path), file_(open_json_file(path)), raw_(std::make_unique<RawRow>()) {}
JsonRows::~JsonRows() = default;
JsonRows::JsonRows(JsonRows&&) noexcept = default;
JsonRows& JsonRows::operator=(JsonRows&&) noexcept = default;

bool JsonRows::next() { return file_->next(*raw_); }
json JsonRows::row() const { return parse_row(*raw_, path_); }
std::string JsonRows::where() const { return row_place(*raw_, path_); }

int64_t count_json_rows(const std::string& path) {
  int64_t rows = 0;
  for (JsonRows file(path); file.next();) ++rows;
  return rows;
}

}  // namespace llama2zh
