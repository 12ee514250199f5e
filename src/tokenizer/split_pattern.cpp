// Patterns of tokenizer.json are Oniguruma's (github.com/kkos/oniguruma, doc/RE, Ruby syntax). Most of what they use means the
// same to PCRE2 with UTF and UCP; \s is Unicode's White_Space there, and is given to PCRE2 as that property, for its own \s has
// one character more. What differs in meaning (\h is a hexadecimal digit there, ^ and $ are lines', && intersects classes,
// \w has marks) is refused, not guessed at. https://www.pcre.org/current/doc/html/pcre2pattern.html
#include "tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr size_t kMaxPatternBytes = 4096;
// Real patterns take a few steps a character, also over a gigabyte of spaces in one word; one that takes
// exponentially many is stopped within a second.
constexpr uint32_t kMatchLimit = 50'000'000;
constexpr uint32_t kHeapLimitKiB = 1 << 18;
constexpr size_t kJitStackStart = 32 << 10, kJitStackMost = 16 << 20;

// Copies the pattern with what must be spelled differently; fails on what PCRE2 would read otherwise.
class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string translate() {
    for (at_ = 0; at_ < pattern_.size();) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else if (c == '^' || c == '$') {
        refuse(std::string(1, c), "it means the ends of lines there");
      } else if (c == '(' && next(1) == '*') {
        refuse("(*", "it is no verb there");
      } else if (c == '}' && next(1) == '+') {
        refuse("}+", "it is not possessive there");
      } else {
        in_class_ = c == '[';
        copy(1);
        if (in_class_ && next(0) == '^') copy(1);
        if (in_class_ && next(0) == ']') refuse("[]", "the two read it differently");
      }
    }
    return std::move(out_);
  }

 private:
  char next(size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }
  void copy(size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }
  [[noreturn]] void refuse(std::string_view part, std::string_view why) const {
    fail_format(where_, cat("the pattern ", std::string(pattern_), " holds ", part,
                            ", which is not supported here: ", why));
  }

  void class_character(char c) {
    if (c == '[') refuse("a class inside a class", "PCRE2 has none");
    if (c == '&' && next(1) == '&') refuse("&&", "PCRE2 does not intersect classes");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void escape() {
    const char c = next(1);
    if (c == 's' || c == 'S') {
      out_ += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
      at_ += 2;
      return;
    }
    const bool letter_or_digit =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '\0';
    if (letter_or_digit && std::string_view("rntfdDpPx").find(c) == std::string_view::npos)
      refuse(cat("\\", c),
             "only \\s \\S \\d \\D \\p \\P \\r \\n \\t \\f and \\x mean the same to both");
    if (c != 'p' && c != 'P') return copy(2);
    const size_t end = next(2) == '{' ? pattern_.find('}', at_) : std::string_view::npos;
    if (end == std::string_view::npos) refuse(cat("\\", c), "without braces");
    copy(end + 1 - at_);
  }

  std::string_view pattern_;
  const std::string& where_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

std::string message_of(int error) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

struct MatchState {
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
};

}  // namespace

struct SplitPattern::Code {
  explicit Code(pcre2_code* compiled) : code(compiled) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* code;
};

void SplitPattern::StateDeleter::operator()(void* state) const {
  auto* const match = static_cast<MatchState*>(state);
  pcre2_match_data_free(match->data);
  pcre2_match_context_free(match->context);
  pcre2_jit_stack_free(match->stack);
  delete match;
}

SplitPattern::SplitPattern(const std::string& pattern, std::string where)
    : pattern_(pattern), where_(std::move(where)) {
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    fail_format(where_,
                cat("a pattern has ", pattern.size(), " bytes, expected 1 to ", kMaxPatternBytes));
  }
  const std::string own = Translator(pattern, where_).translate();
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* const code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(own.data()), own.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) {
    fail_format(where_, cat("the pattern ", pattern, " is not one: ", message_of(error)));
  }
  code_ = std::make_shared<const Code>(code);
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is none, pcre2_match() interprets
}

SplitPattern::State SplitPattern::make_state() const {
  auto match = std::make_unique<MatchState>();
  State state(match.release());
  auto* const made = static_cast<MatchState*>(state.get());
  made->data = pcre2_match_data_create_from_pattern(code_->code, nullptr);
  made->context = pcre2_match_context_create(nullptr);
  made->stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr);
  if (made->data == nullptr || made->context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(made->context, kMatchLimit);
  pcre2_set_heap_limit(made->context, kHeapLimitKiB);
  if (made->stack != nullptr) pcre2_jit_stack_assign(made->context, nullptr, made->stack);
  return state;
}

std::optional<SplitPattern::Range> SplitPattern::find(std::string_view text, size_t from,
                                                      const State& state) const {
  const auto* const match = static_cast<const MatchState*>(state.get());
  const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                from, PCRE2_NO_UTF_CHECK, match->data, match->context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    fail_data("text",
              cat("the pattern ", pattern_, " of ", where_,
                  " can't be matched with it: ", message_of(found)),
              "The pattern takes too many steps on such a text: change it, or the text");
  }
  const PCRE2_SIZE* const range = pcre2_get_ovector_pointer(match->data);
  return Range{range[0], range[1]};
}

std::string escaped_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}-&#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace llama2zh
