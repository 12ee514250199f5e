// https://www.rfc-editor.org/rfc/rfc4180 with the freedoms that Python's csv module takes.
#include "llama2zh/data/csv.h"

#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

class CsvReader {
 public:
  CsvReader(std::string_view text, const std::string& where) : text_(text), where_(where) {
    if (text_.starts_with(kByteOrderMark)) text_.remove_prefix(kByteOrderMark.size());
  }

  std::vector<CsvRow> read() {
    std::vector<CsvRow> rows;
    while (at_ < text_.size()) {
      if (end_of_line()) continue;
      rows.push_back(read_row());
      const size_t found = rows.back().fields.size(), wanted = rows.front().fields.size();
      if (found != wanted) {
        line_ = rows.back().line;
        fail(cat("the row has ", found, " fields, the first one ", wanted),
             "fields with commas or ends of lines must stand in double quotes");
      }
    }
    return rows;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& remedy) const {
    fail_format(cat(where_, ":", line_), problem, remedy);
  }

  bool end_of_line() {
    if (at_ >= text_.size() || (text_[at_] != '\n' && text_[at_] != '\r')) return false;
    at_ += text_.substr(at_, 2) == "\r\n" ? 2 : 1;
    ++line_;
    return true;
  }

  CsvRow read_row() {
    CsvRow row{{}, line_};
    while (true) {
      row.fields.push_back(at_ < text_.size() && text_[at_] == '"' ? quoted() : unquoted());
      if (at_ >= text_.size() || end_of_line()) return row;
      ++at_;  // the comma
    }
  }

  std::string unquoted() {
    const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string field(text_.substr(at_, end - at_));
    at_ = end;
    return field;
  }

  std::string quoted() {
    const int64_t begin = line_;
    std::string field;
    for (++at_; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '\n') ++line_;
      if (c != '"') {
        field += c;
      } else if (text_.substr(at_, 2) == "\"\"") {
        field += text_[at_++];
      } else {
        ++at_;
        const bool ends = at_ >= text_.size() || text_.find_first_of(",\r\n", at_) == at_;
        if (!ends) fail("there is text behind a quoted field", "a quote inside it is written \"\"");
        return field;
      }
    }
    line_ = begin;
    fail("a quoted field does not end", "the file may be cut off");
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRow> parse_csv(std::string_view text, const std::string& where) {
  return CsvReader(text, where).read();
}

std::vector<CsvRow> read_csv(const std::filesystem::path& path) {
  return parse_csv(read_text_file(path), path.string());
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (const std::string& field : fields) {
    if (&field != &fields.front()) line += ',';
    if (field.find_first_of(",\"\r\n") == std::string::npos) {
      line += field;
      continue;
    }
    line += '"';
    for (const char c : field) line += c == '"' ? "\"\"" : std::string(1, c);
    line += '"';
  }
  return line + '\n';
}

}  // namespace llama2zh
