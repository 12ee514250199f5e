#pragma once

#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace llama2zh {

// Cuts Chinese text into words as jieba 0.42.1 does in its default mode (cut(text, cut_all=False,
// HMM=True)), with its dictionary, which is part of the program. const methods are thread-safe.
class WordSegmenter {
 public:
  WordSegmenter();
  ~WordSegmenter();
  WordSegmenter(WordSegmenter&&) noexcept;
  WordSegmenter& operator=(WordSegmenter&&) noexcept;

  // Adds the words of a dictionary in jieba's format, "word [frequency] [tag]" a line. A word without
  // a frequency gets one with which it stays whole. kData names the line.
  void add_dictionary(const std::filesystem::path& path);

  // The words, spaces and marks of `text`, which must be valid UTF-8; laid end to end they are it.
  std::vector<std::string_view> cut(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What Python's str.isspace() and \s take for a space.
bool is_python_space(char32_t c);

}  // namespace llama2zh
