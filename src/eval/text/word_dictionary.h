#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace llama2zh {

// Words with their frequencies, as a tree over their characters. Every beginning of a word is in it
// too, with frequency 0, unless it is a word of its own.
class WordDictionary {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr Node kNone = ~Node{0};

  WordDictionary();
  // A word that is there gets the new frequency; total() counts both.
  void add(std::u32string_view word, int64_t frequency);

  Node child(Node node, char32_t character) const;  // kNone if no word goes on so
  int64_t frequency(Node node) const { return frequencies_[node]; }
  // Of the word, 0 of what only begins one; none of anything else.
  std::optional<int64_t> frequency(std::u32string_view word) const;
  int64_t total() const { return total_; }

 private:
  struct Edge {
    uint64_t key = 0;  // 0: free
    Node target = 0;
  };
  size_t slot(uint64_t key) const;
  void grow();

  std::vector<Edge> edges_;           // open addressing, a power of two, at most half full
  std::vector<int64_t> frequencies_;  // of each node
  int64_t total_ = 0;
};

}  // namespace llama2zh
