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

// One side of a split.
struct SplitSide {
  int64_t rows = 0, tokens = 0;
};
// kUsage if validation_split left one side empty, or took far more from training than the share
// `asked` for: rows are held out whole, and a whole .txt is one.
void check_split(double asked, SplitSide train, SplitSide held_out);

}  // namespace llama2zh
