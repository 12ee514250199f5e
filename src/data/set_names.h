#pragma once

#include <cstdint>
#include <set>
#include <string>

namespace llama2zh {

// Validation sets are called as their files are, without extensions; the second "zh" is "zh-2".
class SetNames {
 public:
  std::string of(const std::string& file);

 private:
  std::set<std::string> taken_ = {"train"};
};

// kUsage if validation_split left one side empty.
void check_split(int64_t train_rows, int64_t held_out_rows);

}  // namespace llama2zh
