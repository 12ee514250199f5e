#include "tokenizer/split_pattern.h"

#include <gmock/gmock.h>

#include "tokenizer/byte_level_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  const SplitPattern split(pattern, "f.json");
  const auto state = split.make_state();
  std::vector<std::string> found;
  for (size_t from = 0; from < text.size();) {
    const auto range = split.find(text, from, state);
    if (!range || range->begin == range->end) break;
    found.push_back(text.substr(range->begin, range->end - range->begin));
    from = range->end;
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST(SplitPattern, ClassesAreUnicodes) {
  EXPECT_EQ(matches("\\p{L}+|\\p{N}", "né中文½٣"), (Strings{"né中文", "½", "٣"}));
  EXPECT_EQ(matches("\\s+", "a\u3000\u0085b\u180ec \u2028"), (Strings{"\u3000\u0085", " \u2028"}));
  EXPECT_EQ(matches("[^\\s\\p{L}]+", "a\u180e,b c"), (Strings{"\u180e,"}));
  EXPECT_EQ(matches("\\S+", "ab \u3000c"), (Strings{"ab", "c"}));
  EXPECT_EQ(matches("(?i:'s)", "'S'\u017f"), (Strings{"'S", "'\u017f"}));
  EXPECT_EQ(matches("\\s+(?!\\S)", "a   b"), (Strings{"  "}));
  EXPECT_EQ(matches(escaped_pattern("a.[b"), "axb a.[b"), (Strings{"a.[b"}));
}

TEST(SplitPattern, RefusesWhatMeansSomethingElseToOniguruma) {
  const std::pair<const char*, const char*> cases[] = {{"\\h+", "\\h"},
                                                       {"\\w", "\\w"},
                                                       {"\\bx", "\\b"},
                                                       {"^a", "^"},
                                                       {"a$", "$"},
                                                       {"[a&&b]", "&&"},
                                                       {"[[:alpha:]]", "class inside"},
                                                       {"(*FAIL)", "(*"},
                                                       {"\\pL", "\\p"},
                                                       {"\\p{Nonsense}", "is not one"},
                                                       {"(a", "is not one"},
                                                       {"a{1,3}+", "}+"},
                                                       {"[]a]", "[]"},
                                                       {"(?R)\\1", "\\1"},
                                                       {"\\", "\\"},
                                                       {"", "0 bytes"}};
  for (const auto& [pattern, part] : cases) {
    expect_error(ErrorKind::kFormat, part, [&] { SplitPattern(pattern, "f.json"); });
  }
  expect_error(ErrorKind::kFormat, "4097 bytes",
               [] { SplitPattern(std::string(4097, 'a'), "f.json"); });
}

TEST(SplitPattern, StopsOnPatternsThatNeverEnd) {
  const std::string text(60, 'a');
  expect_error(ErrorKind::kData, "takes too many steps", [&] { matches("(a|aa)+\\p{N}", text); });
  expect_error(ErrorKind::kData, "f.json", [&] { matches("(a*)*\\p{N}", text); });
}

TEST(SplitPattern, RealPatternsTakeLongRunsOfSpaces) {
  const std::string spaces(4 << 20, ' ');
  const auto found = matches("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", spaces + "x");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].size(), spaces.size() - 1);
}

}  // namespace
}  // namespace llama2zh
