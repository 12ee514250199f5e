#include "train/json_lines.h"

#include <cerrno>
#include <fstream>
#include <string>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

void keep_json_lines(const fs::path& file, int64_t after_step) {
  std::string kept;
  if (after_step > 0 && fs::exists(file)) {
    for (const std::string& line : split(read_file(file), '\n')) {
      const json value = json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!value.is_object() || value.value("step", int64_t{0}) > after_step) continue;
      kept += line + "\n";
    }
  }
  write_file_atomic(file, kept);
}

void append_json_line(const fs::path& file, const ordered_json& line) {
  std::ofstream out(file, std::ios::app | std::ios::binary);
  out << line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) << '\n' << std::flush;
  if (!out) fail_io(file.string(), "can't be written", errno);
}

}  // namespace llama2zh
