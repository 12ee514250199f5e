// jieba's default mode (jieba/__init__.py, 0.42.1; MIT licence, Sun Junyi). Text is cut into blocks of
// Han characters, letters, digits and "+#&._%-", and the rest, each of whose characters stands alone.
// In a block, the likeliest way through the dictionary's words wins; runs of characters that stay
// single there go through the hidden Markov model.
#include "llama2zh/eval/word_segmenter.h"

#include <zstd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <string>

#include "eval/text/word_data.h"
#include "eval/text/word_dictionary.h"
#include "eval/text/word_hmm.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }
bool is_letter_or_digit(char32_t c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_block_character(char32_t c) {
  return is_word_han(c) || is_letter_or_digit(c) ||
         (c < 128 && std::string_view("+#&._%-").find(static_cast<char>(c)) != std::string::npos);
}

std::string decompress(std::string_view bytes, std::string_view name) {
  std::string out(ZSTD_getFrameContentSize(bytes.data(), bytes.size()), '\0');
  const size_t size = ZSTD_decompress(out.data(), out.size(), bytes.data(), bytes.size());
  if (size != out.size()) fail_format(name, "the program's own copy of it is damaged");
  return out;
}

std::u32string to_utf32(std::string_view text) {
  const std::vector<char32_t> characters = utf8_to_codepoints(text);
  return {characters.begin(), characters.end()};
}

// "word frequency tag" a line.
WordDictionary read_dictionary(std::string_view text) {
  WordDictionary words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t space = line.find(' ');
    int64_t frequency = 0;
    if (space == 0 || space == std::string_view::npos ||
        std::from_chars(line.data() + space + 1, line.data() + line.size(), frequency).ec !=
            std::errc())
      fail_format("dict.txt", cat("\"", line, "\": expected a word and its frequency"));
    words.add(to_utf32(line.substr(0, space)), frequency);
  }
  return words;
}

struct UserWord {
  std::u32string word;
  int64_t frequency = -1;  // -1: none is given
};

// ^(.+?)( [0-9]+)?( [a-z]+)?$
UserWord parse_user_word(std::string_view line, const std::string& where) {
  const auto ends_with_word_of = [&line](auto belongs) {
    const size_t space = line.rfind(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == line.size()) return false;
    return std::all_of(line.begin() + static_cast<std::ptrdiff_t>(space) + 1, line.end(), belongs);
  };
  if (ends_with_word_of([](char c) { return c >= 'a' && c <= 'z'; }))
    line = line.substr(0, line.rfind(' '));
  UserWord word;
  if (ends_with_word_of([](char c) { return c >= '0' && c <= '9'; })) {
    const size_t space = line.rfind(' ');
    const char* end = line.data() + line.size();
    if (std::from_chars(line.data() + space + 1, end, word.frequency).ec != std::errc() ||
        word.frequency > (int64_t{1} << 40))
      fail_data(where, "the frequency is too large");
    line = line.substr(0, space);
  }
  word.word = to_utf32(line);
  return word;
}

// The words of a block or text as ends behind one another.
using WordEnds = std::vector<size_t>;

}  // namespace

struct WordSegmenter::Impl {
  WordDictionary words;
  WordHmm hmm;
  std::set<std::u32string, std::less<>> always_split;  // of frequency 0

  Impl(WordDictionary dictionary, WordHmm model)
      : words(std::move(dictionary)), hmm(std::move(model)) {}

  WordEnds best_path(std::u32string_view block) const;
  void cut_unknown(std::u32string_view text, size_t offset, WordEnds& ends) const;
  void cut_block(std::u32string_view block, size_t offset, WordEnds& ends) const;
  void cut_block_without_hmm(std::u32string_view block, size_t offset, WordEnds& ends) const;
  WordEnds cut(std::u32string_view text, bool use_hmm) const;
  int64_t suggested_frequency(std::u32string_view word) const;
};

// For each position, where the word that begins there ends on the likeliest way to the block's end.
WordEnds WordSegmenter::Impl::best_path(std::u32string_view block) const {
  const double log_total = std::log(static_cast<double>(words.total()));
  std::vector<double> best(block.size() + 1, 0);
  WordEnds end(block.size());
  for (size_t begin = block.size(); begin-- > 0;) {
    best[begin] = -std::numeric_limits<double>::infinity();
    const auto consider = [&](int64_t frequency, size_t behind) {
      const double way = std::log(static_cast<double>(frequency)) - log_total + best[behind];
      if (way < best[begin]) return;
      best[begin] = way;
      end[begin] = behind;
    };
    bool found = false;
    WordDictionary::Node node = WordDictionary::kRoot;
    for (size_t i = begin; i < block.size(); ++i) {
      node = words.child(node, block[i]);
      if (node == WordDictionary::kNone) break;
      if (words.frequency(node) == 0) continue;
      found = true;
      consider(words.frequency(node), i + 1);
    }
    if (!found) consider(1, begin + 1);
  }
  return end;
}

// finalseg.cut(): words of Han characters by the model, numbers with "%" and letters together.
void WordSegmenter::Impl::cut_unknown(std::u32string_view text, size_t offset,
                                      WordEnds& ends) const {
  const auto run = [&text](size_t begin, auto belongs) {
    while (begin < text.size() && belongs(text[begin])) ++begin;
    return begin;
  };
  for (size_t at = 0; at < text.size();) {
    if (is_word_han(text[at])) {
      const size_t end = run(at, is_word_han);
      for (const size_t length : hmm.cut(text.substr(at, end - at))) {
        const bool split = always_split.contains(text.substr(at, length));
        for (size_t i = 1; split && i < length; ++i) ends.push_back(offset + at + i);
        at += length;
        ends.push_back(offset + at);
      }
      continue;
    }
    if (is_letter_or_digit(text[at])) {  // [a-zA-Z0-9]+(?:\.\d+)?%?
      at = run(at, is_letter_or_digit);
      if (at + 1 < text.size() && text[at] == '.' && is_digit(text[at + 1]))
        at = run(at + 1, is_digit);
      if (at < text.size() && text[at] == '%') ++at;
    } else {
      at = run(at, [](char32_t c) { return !is_word_han(c) && !is_letter_or_digit(c); });
    }
    ends.push_back(offset + at);
  }
}

// __cut_DAG
void WordSegmenter::Impl::cut_block(std::u32string_view block, size_t offset,
                                    WordEnds& ends) const {
  const WordEnds path = best_path(block);
  size_t single = 0;  // where the run of single characters before `at` begins
  const auto end_run = [&](size_t at) {
    const std::u32string_view run = block.substr(single, at - single);
    if (run.size() > 1 && words.frequency(run).value_or(0) == 0)
      return cut_unknown(run, offset + single, ends);
    for (size_t i = 1; i <= run.size(); ++i) ends.push_back(offset + single + i);
  };
  for (size_t at = 0; at < block.size(); at = path[at]) {
    if (path[at] - at == 1) continue;
    end_run(at);
    single = path[at];
    ends.push_back(offset + single);
  }
  end_run(block.size());
}

// __cut_DAG_NO_HMM: single letters and digits behind one another are one word.
void WordSegmenter::Impl::cut_block_without_hmm(std::u32string_view block, size_t offset,
                                                WordEnds& ends) const {
  const WordEnds path = best_path(block);
  bool joins = false;
  for (size_t at = 0; at < block.size(); at = path[at]) {
    const bool letter = path[at] - at == 1 && is_letter_or_digit(block[at]);
    if (letter && joins) ends.pop_back();
    ends.push_back(offset + path[at]);
    joins = letter;
  }
}

WordEnds WordSegmenter::Impl::cut(std::u32string_view text, bool use_hmm) const {
  WordEnds ends;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && is_block_character(text[end])) ++end;
    if (end == at) {
      const bool line_end = text.substr(at, 2) == U"\r\n";
      ends.push_back(at += line_end ? 2 : 1);
      continue;
    }
    const std::u32string_view block = text.substr(at, end - at);
    use_hmm ? cut_block(block, at, ends) : cut_block_without_hmm(block, at, ends);
    at = end;
  }
  return ends;
}

// suggest_freq(): as likely as its parts together, and one more.
int64_t WordSegmenter::Impl::suggested_frequency(std::u32string_view word) const {
  const auto total = static_cast<double>(words.total());
  double probability = 1;
  size_t begin = 0;
  for (const size_t end : cut(word, false)) {
    const int64_t part = words.frequency(word.substr(begin, end - begin)).value_or(1);
    probability *= static_cast<double>(part) / total;
    begin = end;
  }
  return std::max(static_cast<int64_t>(probability * total) + 1, words.frequency(word).value_or(1));
}

WordSegmenter::WordSegmenter() {
  const WordData data = compressed_word_data();
  impl_ = std::make_unique<Impl>(
      read_dictionary(decompress(data.dictionary, "dict.txt")),
      WordHmm(decompress(data.start, "prob_start.py"), decompress(data.trans, "prob_trans.py"),
              decompress(data.emit, "prob_emit.py")));
}
WordSegmenter::~WordSegmenter() = default;
WordSegmenter::WordSegmenter(WordSegmenter&&) noexcept = default;
WordSegmenter& WordSegmenter::operator=(WordSegmenter&&) noexcept = default;

void WordSegmenter::add_dictionary(const std::filesystem::path& path) {
  LineReader lines(path);
  for (std::string line; lines.next(line);) {
    const std::string_view text = trim(line);
    if (text.empty()) continue;
    if (!is_utf8(text)) fail_data(lines.where(), "the word is not UTF-8");
    UserWord user = parse_user_word(text, lines.where());
    if (user.frequency < 0) user.frequency = impl_->suggested_frequency(user.word);
    impl_->words.add(user.word, user.frequency);
    if (user.frequency == 0) impl_->always_split.insert(user.word);
  }
}

std::vector<std::string_view> WordSegmenter::cut(std::string_view text) const {
  const std::u32string characters = to_utf32(text);
  std::vector<std::string_view> words;
  size_t character = 0, begin = 0, byte = 0;
  for (const size_t end : impl_->cut(characters, true)) {
    for (; character < end; ++character) {
      const char32_t c = characters[character];
      byte += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    }
    words.push_back(text.substr(begin, byte - begin));
    begin = byte;
  }
  return words;
}

bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace llama2zh
