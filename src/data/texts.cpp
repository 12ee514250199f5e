// Pretraining rows: a JSON object with its text under one key, or a whole .txt file.
#include "data/row_text.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {
namespace {

const json& find_text(const json& row, const std::string& field, const std::string& place) {
  if (field != "auto") {
    const auto found = row.find(field);
    if (found == row.end()) fail_data(place, cat("the row has no key \"", field, "\""));
    return *found;
  }
  for (const char* key : {"input", "text"}) {
    const auto found = row.find(key);
    if (found != row.end()) return *found;
  }
  fail_data(place, "the row has neither \"input\" nor \"text\"", "name its key with data.field");
}

}  // namespace

std::string text_of_row(RawRow& row, const std::string& field, std::string_view file) {
  if (!row.is_json) {
    if (row.numbered && !is_utf8(row.text)) {
      fail_data(row_place(row, file), "the text is not valid UTF-8", "convert the file to UTF-8");
    }
    return std::move(row.text);
  }
  const json value = parse_row(row, file);
  const std::string place = row_place(row, file);
  const json& text = find_text(value, field, place);
  if (text.is_string()) return text.get<std::string>();
  if (!text.is_array()) {
    fail_data(place, cat("expected a text or a list of texts, found ", text.type_name()));
  }
  std::string joined;
  for (const json& part : text) {  // lines of a poem, paragraphs of a chapter
    if (!part.is_string()) {
      fail_data(place, cat("expected a list of texts, found ", part.type_name(), " in it"));
    }
    if (!joined.empty()) joined += '\n';
    joined += part.get_ref<const std::string&>();
  }
  return joined;
}

void for_each_text(const std::string& file, const std::string& field,
                   const std::function<void(std::string_view text, std::string_view where)>& row) {
  const std::unique_ptr<RowFile> rows = RowFile::open(file);
  for (RawRow raw; rows->next(raw);) {
    const std::string place = row_place(raw, file);
    row(text_of_row(raw, field, file), place);
  }
}

}  // namespace llama2zh
