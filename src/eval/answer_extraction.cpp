// The programs' own regular expressions, in their order. Python's re and PCRE2 with UTF mean the same
// by all that they use; ends of lines are \n to both.
#include "llama2zh/eval/answer_extraction.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <new>
#include <optional>
#include <vector>

namespace llama2zh {
namespace {

constexpr std::string_view kLetters = "ABCD";

struct Match {
  std::string_view whole, group;
  size_t end = 0;
};

class AnswerPattern {
 public:
  // `group`: the one that holds the answer.
  explicit AnswerPattern(std::string_view pattern, uint32_t group = 1) : group_(group) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
        pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_MULTILINE, &error, &offset, context.get()));
    if (code_) data_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    if (!data_) throw std::bad_alloc();  // the patterns below are valid
  }

  // Beyond the matcher's limits there is none.
  std::optional<Match> find(std::string_view text, size_t from = 0) const {
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), from, PCRE2_NO_UTF_CHECK, data_.get(), nullptr);
    if (found <= 0) return std::nullopt;
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data_.get());
    const PCRE2_SIZE* inner = ends + 2 * static_cast<size_t>(group_);
    return Match{text.substr(ends[0], ends[1] - ends[0]),
                 text.substr(inner[0], inner[1] - inner[0]), ends[1]};
  }

 private:
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  };
  uint32_t group_;
  std::unique_ptr<pcre2_code, Free> code_;
  std::unique_ptr<pcre2_match_data, Free> data_;
};

using AnswerPatterns = std::vector<AnswerPattern>;

char letter_of(std::string_view text) {
  return text.size() == 1 && kLetters.find(text[0]) != std::string_view::npos ? text[0] : '\0';
}

char first_match(const AnswerPatterns& patterns, std::string_view text) {
  for (const AnswerPattern& pattern : patterns)
    if (const auto match = pattern.find(text)) return letter_of(match->group);
  return 0;
}

char only_letter(std::string_view text) {
  const size_t at = text.find_first_of(kLetters);
  if (at == std::string_view::npos ||
      text.find_first_of(kLetters, at + 1) != std::string_view::npos)
    return 0;
  return text[at];
}

char only_option(std::string_view text, const std::array<std::string, 4>& choices) {
  char found = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    if (text.find(choices[i]) == std::string_view::npos) continue;
    if (found != 0) return 0;
    found = kLetters[i];
  }
  return found;
}

char ceval_letter(std::string_view text, const std::array<std::string, 4>& choices) {
  thread_local const AnswerPattern conclusion("所以答案是(.+?)。");
  thread_local const AnswerPatterns phrases = [] {
    AnswerPatterns out;
    for (const char* pattern :
         {"([ABCD])是正确的", "选项([ABCD])正确", "答案为([ABCD])", "答案是([ABCD])",
          "答案([ABCD])", "选择([ABCD])", "答案：([ABCD])", "选择答案([ABCD])"})
      out.emplace_back(pattern);
    return out;
  }();
  std::optional<Match> last;
  for (auto match = conclusion.find(text); match; match = conclusion.find(text, match->end))
    last = match;
  if (last && letter_of(last->group) != 0) return letter_of(last->group);
  if (const char letter = first_match(phrases, text)) return letter;
  if (const char letter = only_letter(text)) return letter;
  return only_option(text, choices);
}

// What the pattern finds last, looking each time inside what it found before, from the second character
// on.
char innermost(const AnswerPattern& pattern, std::string_view text) {
  char letter = 0;
  for (auto match = pattern.find(text); match; match = pattern.find(match->whole.substr(1)))
    letter = letter_of(match->group);
  return letter;
}

char cmmlu_letter(std::string_view text) {
  thread_local const AnswerPatterns phrases = [] {
    AnswerPatterns out;
    out.emplace_back("答案(选项)?(是|为)：? ?([ABCD])", 3);
    out.emplace_back("答案(是|为)选项 ?([ABCD])", 2);
    out.emplace_back("故?选择?：? ?([ABCD])");
    out.emplace_back("([ABCD]) ?选?项(是|为)?正确");
    out.emplace_back("正确的?选项(是|为) ?([ABCD])", 2);
    out.emplace_back("答案(应该)?(是|为)([ABCD])", 3);
    out.emplace_back("选项 ?([ABCD]) ?(是|为)?正确");
    out.emplace_back("选择答案 ?([ABCD])");
    out.emplace_back("答案?：?([ABCD])");
    out.emplace_back("([ABCD])(选?项)?是?符合题意");
    out.emplace_back("答案选项：? ?([ABCD])");
    out.emplace_back("答案(选项)?为(.*?)([ABCD])", 3);
    return out;
  }();
  thread_local const AnswerPattern chosen("([ABCD])(.*?)当选"), right("([ABCD])(.*?)正确"),
      said("[^不]是：? ?([ABCD])");
  if (!text.empty() && letter_of(text.substr(0, 1)) != 0) return text[0];
  if (const char letter = first_match(phrases, text)) return letter;
  if (const char letter = innermost(chosen, text)) return letter;
  if (const char letter = innermost(right, text)) return letter;
  if (const auto match = said.find(text)) return letter_of(match->group);
  return only_letter(text);
}

}  // namespace

char extract_answer(ExamSuite suite, std::string_view answer,
                    const std::array<std::string, 4>& choices) {
  return suite == ExamSuite::kCeval ? ceval_letter(answer, choices) : cmmlu_letter(answer);
}

}  // namespace llama2zh
