#include "commands/rows_output.h"

#include <cerrno>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

RowsOutput::RowsOutput(const fs::path& output, const std::string& settings, bool overwrite)
    : output_(output), partial_(output.string() + StagedFolder::kSuffix) {
  if (fs::exists(output) && !overwrite) {
    fail_usage(output.string(), "the file exists already",
               "choose another name or pass --overwrite");
  }
  const std::string first_line = ordered_json{{"settings", settings}}.dump();
  if (overwrite || !take_over(first_line)) begin(first_line);
}

// False if there is no partial file worth keeping.
bool RowsOutput::take_over(const std::string& first_line) {
  if (!fs::exists(partial_)) return false;
  const std::string text = read_file(partial_);
  const size_t header = text.find('\n');
  if (header == std::string::npos) return false;
  if (text.compare(0, header, first_line) != 0) {
    fail_usage(partial_.string(), "it was begun with another input, model or other options",
               "give the same again, or --overwrite to begin anew");
  }
  size_t end = header + 1;  // a last line without its end was cut off
  for (size_t next = text.find('\n', end); next != std::string::npos; next = text.find('\n', end)) {
    ++next_;
    end = next + 1;
  }
  fs::resize_file(partial_, end);
  file_.open(partial_, std::ios::binary | std::ios::app);
  if (!file_) fail();
  return true;
}

void RowsOutput::begin(const std::string& first_line) {
  file_.open(partial_, std::ios::binary | std::ios::trunc);
  file_ << first_line << '\n' << std::flush;
  if (!file_) fail();
}

void RowsOutput::fail() const { fail_io(partial_.string(), "it can't be written", errno); }

void RowsOutput::add(int64_t index, const ordered_json& row) {
  early_[index] = row.dump();
  if (index != next_) return;
  for (auto it = early_.begin(); it != early_.end() && it->first == next_; it = early_.begin()) {
    file_ << it->second << '\n';
    early_.erase(it);
    ++next_;
  }
  if (!file_.flush()) fail();
}

void RowsOutput::commit() {
  file_.close();
  if (!file_) fail();
  const auto rows = MappedFile::open(partial_);
  const std::string_view bytes = rows->bytes();
  AtomicFile whole(output_);
  whole.write(bytes.substr(bytes.find('\n') + 1));
  whole.commit();
  fs::remove(partial_);
}

}  // namespace llama2zh
