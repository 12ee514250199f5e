// What patterns, choices and grammars let through.
#include "llama2zh/engine/constraint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/engine.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;

bool fits(const Constraint& constraint, const std::string& text) {
  GrammarMatcher matcher(constraint_grammar(constraint));
  return matcher.accepts(matcher.advance(matcher.start(), text));
}
bool matches(const std::string& pattern, const std::string& text) {
  return fits({ConstraintKind::kPattern, pattern}, text);
}
bool follows(const std::string& grammar, const std::string& text) {
  return fits({ConstraintKind::kGrammar, grammar}, text);
}
std::string refusal(const Constraint& constraint) {
  try {
    constraint_grammar(constraint);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Pattern, IsOfTheWholeText) {
  EXPECT_TRUE(matches("a+b", "aab"));
  EXPECT_FALSE(matches("a+b", "xaab"));
  EXPECT_FALSE(matches("a+b", "aabx"));
  EXPECT_TRUE(matches("^a+b$", "ab"));
  EXPECT_TRUE(matches("(?:正|负)面", "负面"));
  EXPECT_FALSE(matches("(?:正|负)面", "正"));
  EXPECT_TRUE(matches("\\d{4}-\\d\\d", "2026-11"));
  EXPECT_FALSE(matches("\\d{4}-\\d\\d", "226-11"));
  EXPECT_TRUE(matches("[^a-z]*", "人工\n\"智能\\"));  // as it stands, not as JSON writes it
  EXPECT_FALSE(matches(".", "\n"));
  EXPECT_THAT(refusal({ConstraintKind::kPattern, "(a"}), HasSubstr("pattern \"(a\""));
}

TEST(Choice, IsOneOfTheTexts) {
  const Constraint sides = choice_constraint({"正面", "负面", "正面的"});
  for (const char* good : {"正面", "负面", "正面的"}) EXPECT_TRUE(fits(sides, good)) << good;
  for (const char* bad : {"", "正", "正面负面"}) EXPECT_FALSE(fits(sides, bad)) << bad;
  EXPECT_THAT(refusal(choice_constraint({})), HasSubstr("none to choose"));
  EXPECT_THAT(refusal(choice_constraint({"a", ""})), HasSubstr("empty"));
}

// llama.cpp's own example of arithmetic, with comments and rules over several lines.
constexpr const char* kArithmetic = R"gbnf(# sums
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num |
          "(" ws expr ")" ws   # nested
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
)gbnf";

TEST(Gbnf, FollowsRules) {
  for (const char* good : {"1=2\n", "(a +1) *b2=x\n", "1=1\n2=2\n", "((((1))))=1\n"})
    EXPECT_TRUE(follows(kArithmetic, good)) << good;
  for (const char* bad : {"", "1=2", "(1=2\n", "1++1=2\n", "A=1\n"})
    EXPECT_FALSE(follows(kArithmetic, bad)) << bad;
  EXPECT_TRUE(follows(R"(root ::= "\u4f60\x21" [^\n] . ? "a"{2,3})", "你!x人aa"));
  EXPECT_FALSE(follows(R"(root ::= "\u4f60\x21" [^\n] . ? "a"{2,3})", "你!\naa"));
  EXPECT_TRUE(follows("root ::= \"a\" | \"\"", ""));
  // A rule that begins with itself is no trap.
  EXPECT_TRUE(follows("root ::= root \"+1\" | \"1\"", "1+1+1"));
  EXPECT_FALSE(follows("root ::= root \"+1\" | \"1\"", "1+"));
}

TEST(Gbnf, SaysWhatIsWrongAndWhere) {
  const auto of = [](const std::string& text) { return refusal({ConstraintKind::kGrammar, text}); };
  EXPECT_THAT(of(""), HasSubstr("no rules"));
  EXPECT_THAT(of("a ::= \"x\"\n"), HasSubstr("no rule \"root\""));
  EXPECT_THAT(of("root ::= b\n"), HasSubstr("\"b\" is called and not defined"));
  EXPECT_THAT(of("root ::= \"a\"\n\nroot ::= \"b\"\n"), HasSubstr("line 3"));
  EXPECT_THAT(of("root ::= (\"a\"\n"), HasSubstr("\")\" is missing"));
  EXPECT_THAT(of("root ::= \"a\n"), HasSubstr("ends on its line"));
  EXPECT_THAT(of("root ::= [z-a]\n"), HasSubstr("range"));
  EXPECT_THAT(of("root ::= \"a\"{9999}\n"), HasSubstr("repetitions"));
  EXPECT_THAT(of("root = \"a\"\n"), HasSubstr("::="));
  EXPECT_THAT(of("root ::= " + std::string(2000, '(')), HasSubstr("nested"));
  EXPECT_THAT(of("root ::= $"), HasSubstr("not expected"));
}

// Nesting without an end, which a stranger's request can drive a model into, costs no memory without
// an end: behind a few hundred levels nothing nests any more.
TEST(Matcher, NestsOnlySoDeep) {
  GrammarMatcher matcher(constraint_grammar(json_schema_constraint("{}")));
  GrammarMatcher::Position place = matcher.start();
  int depth = 0;
  while (place != GrammarMatcher::kNowhere && depth < 5000) {
    place = matcher.advance(place, '[');
    ++depth;
  }
  EXPECT_GT(depth, 64);
  EXPECT_LT(depth, 300);
}

// A model of no sense at all says what it is held to, whatever is drawn.
TEST(Constraint, HoldsTheAnswers) {
  testing::TempFolder folder;
  const Tokenizer tokenizer = testing::tiny_tokenizer(folder.path(), {"ab", "ba", "abb", "▁a"});
  const auto model =
      random_model(testing::small_config(tokenizer.vocab_size(), 128), 11, at::kFloat, at::kCPU);
  model->lm_head.weight.zero_();
  const std::vector<Constraint> all = {
      {ConstraintKind::kPattern, "(ab|ba){2,5}"},
      choice_constraint({"abba", "baab"}),
      {ConstraintKind::kGrammar, "root ::= \"a\" root \"b\" | \"c\""}};
  Engine engine(*model, tokenizer);
  std::vector<testing::Answers> answers(30);
  for (size_t i = 0; i < answers.size(); ++i) {
    Request request = testing::greedy_request({1, 40}, 100);
    request.sampling.temperature = 1;
    request.sampling.seed = static_cast<int64_t>(i);
    request.constraint = all[i % all.size()];
    engine.submit(request, answers[i].listener());
  }
  testing::finish_all(engine);
  std::set<std::string> texts;
  for (size_t i = 0; i < answers.size(); ++i) {
    const Completion& answer = answers[i].result.completions.at(0);
    EXPECT_EQ(answer.finish_reason, "stop");
    EXPECT_TRUE(fits(all[i % all.size()], answer.text)) << answer.text;
    texts.insert(answer.text);
  }
  EXPECT_GT(texts.size(), 5u);
}

}  // namespace
}  // namespace llama2zh
