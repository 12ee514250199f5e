// A JSON array is split into the texts of its elements by a scanner that knows strings and bracket
// depth and nothing else: so one element at a time is in memory, elements can be parsed by several
// threads, and one that is not valid JSON can be skipped alone.
#include "data/row_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>

#include "llama2zh/base/error.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr size_t kMaxRowBytes = size_t{1} << 28;
constexpr std::array<std::string_view, 3> kDataExtensions = {".txt", ".json", ".jsonl"};

bool is_json_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// The bytes of a file one by one, with the place of the next one.
class CharacterSource {
 public:
  explicit CharacterSource(const std::string& path)
      : source_(ByteSource::open(path)), buffer_(size_t{1} << 16, '\0') {
    if (peek() == 0xEF) {  // a byte order mark, if two more bytes agree
      if (size_ >= 3 && buffer_.compare(0, 3, "\xEF\xBB\xBF") == 0) position_ = 3;
    }
  }
  int peek() {  // -1 at the end
    if (position_ == size_) {
      size_ = source_->read(buffer_.data(), buffer_.size());
      position_ = 0;
      if (size_ == 0) return -1;
    }
    return static_cast<unsigned char>(buffer_[position_]);
  }
  void advance() {  // over the byte that peek() gave
    const auto c = static_cast<unsigned char>(buffer_[position_++]);
    if (c == '\n') {
      ++line;
      column = 1;
    } else if ((c & 0xC0) != 0x80) {
      ++column;
    }
  }
  uint64_t consumed() const { return source_->consumed(); }
  int skip_space() {
    while (peek() >= 0 && is_json_space(static_cast<char>(peek()))) advance();
    return peek();
  }

  int64_t line = 1, column = 1;

 private:
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  size_t position_ = 0, size_ = 0;
};

class JsonLinesFile : public RowFile {
 public:
  JsonLinesFile(const std::string& path, bool may_be_one_object)
      : lines_(path, kMaxRowBytes), may_be_one_object_(may_be_one_object) {}
  bool next(RawRow& row) override {
    row = {std::move(row.text)};
    do {
      if (!lines_.next(row.text)) return false;
    } while (std::all_of(row.text.begin(), row.text.end(), is_json_space));
    row.line = lines_.line_number();
    if (may_be_one_object_) refuse_spread_object(row.text);
    may_be_one_object_ = false;
    return true;
  }
  uint64_t consumed() const override { return lines_.consumed(); }

 private:
  // A first line as indented JSON has it.
  void refuse_spread_object(const std::string& line) const {
    const std::string_view text = trim(line);
    if (!text.starts_with('{') ||
        std::string_view("{[,").find(text.back()) == std::string_view::npos)
      return;
    fail_format(lines_.where(), "the file begins with a JSON object that goes over several lines",
                "a .json file must hold one array [...] of rows, or a row {...} on each line");
  }

  LineReader lines_;
  bool may_be_one_object_;  // a .json whose first row was not read yet
};

class JsonArrayFile : public RowFile {
 public:
  explicit JsonArrayFile(const std::string& path) : path_(path), in_(path) {
    in_.skip_space();
    in_.advance();  // the '[' by which the file was recognised
  }
  bool next(RawRow& row) override {
    if (ended_) return false;
    if (in_.skip_space() == ']') return close();
    if (any_) {
      if (in_.peek() != ',') fail_here("expected ',' or ']' after a row of the array");
      in_.advance();
      in_.skip_space();
    }
    any_ = true;
    row = {std::move(row.text)};
    row.text.clear();
    row.line = in_.line;
    row.column = in_.column;
    collect(row);
    return true;
  }
  uint64_t consumed() const override { return in_.consumed(); }

 private:
  [[noreturn]] void fail_here(std::string_view problem) const {
    fail_format(cat(path_, ":", in_.line, ":", in_.column), problem);
  }
  bool close() {
    in_.advance();
    if (in_.skip_space() >= 0) fail_here("there is more text behind the array of rows");
    ended_ = true;
    return false;
  }
  // Takes the text up to the ',' or ']' that ends the element.
  void collect(RawRow& row) {
    int depth = 0;
    bool in_string = false, escaped = false;
    for (;; in_.advance()) {
      const int c = in_.peek();
      if (c < 0) {
        fail_here(cat("the file ends inside the array of rows, in the row that begins in line ",
                      row.line));
      }
      if (in_string) {
        in_string = escaped || c != '"';
        escaped = !escaped && c == '\\';
      } else if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (depth == 0 && (c == ',' || c == ']')) {
        break;
      } else if (c == '}' || c == ']') {
        depth = std::max(depth - 1, 0);
      }
      if (row.text.size() == kMaxRowBytes) {
        fail_here(cat("the row that begins in line ", row.line, " is longer than the ",
                      human_bytes(kMaxRowBytes), " allowed"));
      }
      row.text.push_back(static_cast<char>(c));
    }
  }

  std::string path_;
  CharacterSource in_;
  bool any_ = false, ended_ = false;
};

// Reads "LINE:COLUMN" behind the colon that `text` begins with; returns what follows.
std::string_view read_place(std::string_view text, int64_t& line, int64_t& column) {
  const char* end = text.data() + text.size();
  const auto after_line = std::from_chars(text.data() + 1, end, line);
  const auto after_column = std::from_chars(std::min(after_line.ptr + 1, end), end, column);
  return {after_column.ptr, static_cast<size_t>(end - after_column.ptr)};
}

}  // namespace

std::string data_extension(std::string_view path) {
  std::filesystem::path name = std::filesystem::path(path).filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  return name.extension().string();
}

bool is_data_file(std::string_view path) {
  const std::string extension = data_extension(path);
  return std::find(kDataExtensions.begin(), kDataExtensions.end(), extension) !=
         kDataExtensions.end();
}

std::unique_ptr<RowFile> RowFile::open(const std::string& path, const TextOptions& options) {
  if (!is_data_file(path)) {
    fail_usage(path, "the file name does not say what it holds",
               "expected .txt, .json or .jsonl, each also with .gz or .zst behind it");
  }
  if (data_extension(path) == ".txt") return open_text_file(path, options);
  return open_json_file(path);
}

std::unique_ptr<RowFile> open_json_file(const std::string& path) {
  if (CharacterSource(path).skip_space() == '[') return std::make_unique<JsonArrayFile>(path);
  return std::make_unique<JsonLinesFile>(path, data_extension(path) == ".json");
}

json parse_row(const RawRow& row, std::string_view file) {
  JsonLimits limits;
  limits.refuse_duplicate_keys = false;  // the last one counts, as everywhere in Python
  json value;
  try {
    value = parse_json(row.text, "", limits);
  } catch (const Error& error) {  // ":LINE:COLUMN: problem", counted from the row's start
    int64_t line = 1, column = 1;
    std::string_view problem = read_place(error.what(), line, column);
    if (problem.substr(0, 2) == ": ") problem.remove_prefix(2);
    column = line == 1 ? row.column + column - 1 : column;
    fail_data(cat(file, ":", row.line + line - 1, ":", column), problem);
  }
  if (!value.is_object()) {
    fail_data(cat(file, ":", row.line, ":", row.column),
              cat("expected a row {\"key\": ...}, found ", value.type_name()));
  }
  return value;
}

std::string row_place(const RawRow& row, std::string_view file) {
  return row.numbered ? cat(file, ":", row.line) : std::string(file);
}

}  // namespace llama2zh
