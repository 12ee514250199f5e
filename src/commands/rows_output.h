#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "llama2zh/base/json.h"

namespace llama2zh {

// Rows that are finished in any order and written in theirs. They are collected in
// OUTPUT.llama2zh.partial behind a first line that holds `settings`; commit() makes OUTPUT of it.
class RowsOutput {
 public:
  // Goes on with a partial file of the same settings. kUsage if it has others, or if `output` exists,
  // unless `overwrite`.
  RowsOutput(const std::filesystem::path& output, const std::string& settings, bool overwrite);

  int64_t written() const { return next_; }  // rows 0 .. written() - 1 are in the file
  // Kept until all rows before it are there.
  void add(int64_t index, const ordered_json& row);
  void commit();

 private:
  bool take_over(const std::string& first_line);
  void begin(const std::string& first_line);
  [[noreturn]] void fail() const;

  std::filesystem::path output_, partial_;
  std::ofstream file_;
  int64_t next_ = 0;
  std::map<int64_t, std::string> early_;
};

}  // namespace llama2zh
