// Plain text. A whole file is one document: read at once, or, where parts are allowed, in blocks that
// are cut behind a newline, so that a text of any size is read in bounded memory. \r\n becomes \n, as
// in Python's text mode. A blank text comes as one row, or as a first part that is not blank.
#include <algorithm>

#include "data/row_file.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr size_t kTextBlock = size_t{1} << 18;
constexpr size_t kLongestText = size_t{1} << 32;
constexpr std::string_view kTextMark = "\xEF\xBB\xBF";

class WholeText : public RowFile {
 public:
  WholeText(const std::string& path, size_t part_bytes)
      : path_(path), part_bytes_(part_bytes), source_(ByteSource::open(path)) {}

  bool next(RawRow& row) override {
    if (done_) return false;
    const size_t cut = fill();
    row = {std::move(row.text)};
    row.line = line_;
    row.is_json = row.numbered = false;
    row.begins = first_;
    row.ends = done_ = ended_ && cut == buffer_.size();
    if (done_) {
      row.text = std::move(buffer_);
      return true;
    }
    row.text.assign(buffer_, 0, cut);
    line_ += std::count(row.text.begin(), row.text.end(), '\n');
    buffer_.erase(0, cut);
    scanned_ -= cut;
    first_ = false;
    return true;
  }
  uint64_t consumed() const override { return source_->consumed(); }

 private:
  // Reads until a part can be cut off the buffer's front; returns where.
  size_t fill() {
    size_t newline_from = part_bytes_;
    while (true) {
      // Something has to stay behind the cut, or the last part could not be told from the others.
      if (part_bytes_ > 0 && scanned_ > newline_from) {
        const size_t newline = buffer_.find('\n', newline_from - 1);
        if (newline + 1 < scanned_ && newline != std::string::npos) {
          const bool blank = first_ && is_blank(std::string_view(buffer_).substr(0, newline + 1));
          if (!blank) return newline + 1;
        }
        newline_from = scanned_;
      }
      if (ended_) return buffer_.size();
      read_block();
      if (buffer_.size() > kLongestText) {
        fail_data(
            path_,
            cat("more than ", human_bytes(kLongestText), " of text without a place to cut it"),
            "give documents one a row as .jsonl");
      }
    }
  }

  void read_block() {
    const size_t old = buffer_.size();
    buffer_.resize(old + kTextBlock);
    buffer_.resize(old + source_->read(buffer_.data() + old, kTextBlock));
    ended_ = buffer_.size() == old;
    if (!marked_ && (ended_ || buffer_.size() >= kTextMark.size())) {
      if (buffer_.compare(0, kTextMark.size(), kTextMark) == 0) buffer_.erase(0, kTextMark.size());
      marked_ = true;
    }
    if (marked_) scan(ended_);
  }

  // Checks what is new and takes \r before \n out. A character or a \r at the end waits for more.
  void scan(bool last) {
    const std::string_view rest = std::string_view(buffer_).substr(scanned_);
    size_t end = last ? rest.size() : utf8_complete_prefix(rest);
    if (!last && end > 0 && rest[end - 1] == '\r') --end;
    const size_t bad = utf8_error_offset(rest.substr(0, end));
    if (bad < end) fail_utf8(scanned_ + bad);
    size_t out = scanned_;
    const size_t to = scanned_ + end;
    const size_t carriage = buffer_.find('\r', scanned_);
    if (carriage == std::string::npos || carriage >= to) {
      scanned_ = to;
      return;
    }
    out = carriage;
    for (size_t i = carriage; i < to; ++i) {
      if (buffer_[i] == '\r' && i + 1 < buffer_.size() && buffer_[i + 1] == '\n') continue;
      buffer_[out++] = buffer_[i];
    }
    buffer_.erase(out, to - out);
    scanned_ = out;
  }

  [[noreturn]] void fail_utf8(size_t bad) const {
    const std::string_view before = std::string_view(buffer_).substr(0, bad);
    const size_t newline = before.rfind('\n');
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    const int64_t line = line_ + std::count(before.begin(), before.end(), '\n');
    fail_data(cat(path_, ":", line, ":", 1 + utf8_length(before.substr(start))),
              "the text is not valid UTF-8", "convert the file to UTF-8");
  }

  std::string path_;
  size_t part_bytes_;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  size_t scanned_ = 0;  // so much of the buffer is checked
  int64_t line_ = 1;    // of the buffer's first byte
  bool first_ = true, marked_ = false, ended_ = false, done_ = false;
};

// Documents of one line, or of the lines up to a blank one. Blank lines are no documents.
class TextLines : public RowFile {
 public:
  TextLines(const std::string& path, bool paragraphs) : lines_(path), paragraphs_(paragraphs) {}

  bool next(RawRow& row) override {
    row = {std::move(row.text)};
    row.is_json = false;
    do {
      if (!lines_.next(row.text)) return false;
    } while (is_blank(row.text));
    row.line = lines_.line_number();
    while (paragraphs_ && lines_.next(line_) && !is_blank(line_)) {
      row.text += '\n';
      row.text += line_;
    }
    return true;
  }
  uint64_t consumed() const override { return lines_.consumed(); }

 private:
  LineReader lines_;
  bool paragraphs_;
  std::string line_;
};

}  // namespace

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

TextDocuments parse_text_documents(const std::string& name) {
  if (name == "whole") return TextDocuments::kWhole;
  if (name == "blank_lines") return TextDocuments::kBlankLines;
  if (name == "lines") return TextDocuments::kLines;
  fail_usage("data.txt_documents", cat("\"", name, "\" is not known"),
             "one of whole, blank_lines, lines");
}

std::unique_ptr<RowFile> open_text_file(const std::string& path, const TextOptions& options) {
  if (options.documents == TextDocuments::kWhole)
    return std::make_unique<WholeText>(path, options.part_bytes);
  return std::make_unique<TextLines>(path, options.documents == TextDocuments::kBlankLines);
}

}  // namespace llama2zh
