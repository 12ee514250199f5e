#pragma once

#include <cstdint>
#include <vector>

namespace llama2zh {

// Lays counts[0] + counts[1] + ... items of several sources one behind the other so that every
// stretch holds nearly its share of each: the j-th of c items stands at (j + 1/2) / c of the way.
class Interleaving {
 public:
  struct Slot {
    size_t source = 0;
    int64_t item = 0;
  };
  explicit Interleaving(std::vector<int64_t> counts);
  int64_t size() const { return size_; }
  Slot at(int64_t position) const;  // in sources squared times log(count) steps

 private:
  int64_t rank(size_t source, int64_t item) const;
  std::vector<int64_t> counts_;
  int64_t size_ = 0;
};

}  // namespace llama2zh
