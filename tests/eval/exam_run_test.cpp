#include "llama2zh/eval/exam_run.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "engine/engine_test_util.h"
#include "eval/exam_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/conversation.h"
#include "llama2zh/eval/answer_extraction.h"
#include "llama2zh/eval/exam_report.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// A random model, whose tokenizer spells Chinese in bytes.
class ExamRunTest : public ::testing::Test {
 protected:
  void load(int64_t context, const std::vector<std::string>& more = {}) {
    testing::write_small_exam(folder_.path());
    std::vector<std::string> pieces = {"A", "B", "C", "D", "题"};
    pieces.insert(pieces.end(), more.begin(), more.end());
    loaded_.tokenizer =
        std::make_unique<Tokenizer>(testing::tiny_tokenizer(folder_.path(), pieces));
    loaded_.model = random_model(testing::small_config(loaded_.tokenizer->vocab_size(), context), 7,
                                 at::kFloat, at::kCPU);
  }
  std::vector<ExamSubject> exam(ExamSuite suite, int64_t shots, const std::string& subject) {
    ExamSource source{.suite = suite, .folder = folder_.path() / exam_name(suite)};
    source.split = suite == ExamSuite::kCeval ? "val" : "test";
    source.subjects = {subject};
    source.shots = shots;
    return load_exam(source);
  }
  // The log-probability of `next` behind the last `context` of these tokens, by a plain pass.
  double naive(std::vector<TokenId> ids, TokenId next) const {
    const int64_t context = loaded_.model->config.context_length();
    if (std::ssize(ids) > context) ids.erase(ids.begin(), ids.end() - context);
    const at::NoGradGuard no_grad;
    at::Tensor input = at::empty({std::ssize(ids)}, at::kLong);
    std::copy(ids.begin(), ids.end(), input.data_ptr<int64_t>());
    PackedSequences sequence(input.size(0), at::kCPU);
    const at::Tensor hidden = loaded_.model->forward(input, sequence);
    const at::Tensor last = loaded_.model->logits(hidden.narrow(0, input.size(0) - 1, 1));
    return at::log_softmax(last, 1)[0][next].item<double>();
  }

  testing::TempFolder folder_;
  LoadedModel loaded_;
};

TEST_F(ExamRunTest, ChoosesTheLikeliestLetterAndComputesShotsOnce) {
  load(1024);
  const auto subjects = exam(ExamSuite::kCmmlu, 2, "nutrition");
  const ExamOptions options{.protocol = {ExamSuite::kCmmlu}};
  const ExamRun run = run_exam(loaded_, subjects, options, {});
  int64_t tokens = 0;
  for (size_t q = 0; q < 2; ++q) {
    const ExamAnswer& answer = run.answers[0][q];
    const FittedExam fitted =
        fit_exam(*loaded_.tokenizer, options, subjects[0], subjects[0].questions[q], 1024);
    EXPECT_EQ(answer.prompt_tokens, std::ssize(fitted.ids));
    tokens += answer.prompt_tokens;
    for (size_t i = 0; i < 4; ++i) {
      const TokenId piece = *loaded_.tokenizer->id_of(std::string(1, static_cast<char>('A' + i)));
      EXPECT_NEAR(answer.scores[i], naive(fitted.ids, piece), 1e-4);
    }
    const auto best = std::max_element(answer.scores.begin(), answer.scores.end());
    EXPECT_EQ(answer.choice, 'A' + (best - answer.scores.begin()));
  }
  // Both questions find the shots, the first found by the second the question as well.
  EXPECT_GT(run.cached_tokens, tokens / 2);
  EXPECT_LT(run.computed_tokens, tokens);
  const ExamRun again = run_exam(loaded_, subjects, options, {.prefix_cache = false});
  EXPECT_EQ(again.prompts_sha256, run.prompts_sha256);
  EXPECT_EQ(again.cached_tokens, 0);
  EXPECT_EQ(again.answers[0][1].choice, run.answers[0][1].choice);
  const ExamRun fewer = run_exam(loaded_, exam(ExamSuite::kCmmlu, 1, "nutrition"), options, {});
  EXPECT_NE(fewer.prompts_sha256, run.prompts_sha256);
}

TEST_F(ExamRunTest, TheHarnessScoresTheTextBehindTheEndOfThePrompt) {
  for (const int64_t context : {1024, 96}) {  // the prompt's end alone fits into the second
    load(context);
    const auto subjects = exam(ExamSuite::kCeval, 1, "logic");
    const ExamOptions options{.protocol = {ExamSuite::kCeval, true}};
    const ExamRun run = run_exam(loaded_, subjects, options, {});
    const FittedExam fitted =
        fit_exam(*loaded_.tokenizer, options, subjects[0], subjects[0].questions[0], 1024);
    EXPECT_EQ(run.answers[0][0].cut, context < 1024);
    for (size_t i = 0; i < 4; ++i) {
      std::vector<TokenId> ids = fitted.ids;
      const std::vector<TokenId> whole =
          raw_prompt(*loaded_.tokenizer, fitted.text + " " + static_cast<char>('A' + i));
      ASSERT_EQ(whole.size(), ids.size() + 2);  // "▁" and the letter
      // All the choice's tokens are predicted behind the same beginning.
      const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(0, std::ssize(whole) - context - 1);
      std::vector<TokenId> seen(ids.begin() + begin, ids.end());
      double expected = naive(seen, whole[ids.size()]);
      seen.push_back(whole[ids.size()]);
      expected += naive(seen, whole[ids.size() + 1]);
      EXPECT_NEAR(run.answers[0][0].scores[i], expected, 1e-4);
    }
  }
}

TEST_F(ExamRunTest, DropsTheLongestShotsThenTheHeader) {
  load(1024);
  const auto subjects = exam(ExamSuite::kCeval, 2, "logic");
  const ExamOptions options{.protocol = {ExamSuite::kCeval}};
  const auto fit = [&](int64_t room) {
    return fit_exam(*loaded_.tokenizer, options, subjects[0], subjects[0].questions[2], room);
  };
  const FittedExam whole = fit(1024);
  EXPECT_EQ(whole.dropped_shots, 0);
  const FittedExam one = fit(std::ssize(whole.ids) - 1);
  EXPECT_EQ(one.dropped_shots, 1);
  EXPECT_THAT(one.text, HasSubstr("甲比乙高"));  // the other is longer
  EXPECT_THAT(one.text, Not(HasSubstr("若雨则湿")));
  const FittedExam none = fit(std::ssize(one.ids) - 1);
  EXPECT_EQ(none.dropped_shots, 2);
  EXPECT_THAT(none.text, HasSubstr("考试"));
  const FittedExam bare = fit(std::ssize(none.ids) - 1);
  EXPECT_EQ(bare.text, "红花是____\nA. 花\nB. 红\nC. 叶\nD. 根\n答案：");
  EXPECT_FALSE(bare.cut);
  const FittedExam cut = fit(std::ssize(bare.ids) - 5);
  EXPECT_TRUE(cut.cut);
  EXPECT_EQ(cut.ids.size(), bare.ids.size() - 5);
  EXPECT_EQ(cut.ids.front(), loaded_.tokenizer->bos_id());
  EXPECT_EQ(cut.ids.back(), bare.ids.back());
}

// The template's prompt of the exam's messages, and the letters at the beginning of an answer or behind
// a colon.
TEST_F(ExamRunTest, ChatAsksInMessagesAndAddsBothForms) {
  load(1024, {"▁A", "▁B", "▁C", "▁D"});
  const auto subjects = exam(ExamSuite::kCeval, 2, "logic");
  ExamOptions options{.protocol = {ExamSuite::kCeval}};
  options.chat = &ChatTemplate::get("zephyr");
  const auto expect_both = [&](const ExamRun& run, const std::vector<TokenId>& prompt) {
    EXPECT_EQ(run.answers[0][1].prompt_tokens, std::ssize(prompt));
    for (size_t i = 0; i < 4; ++i) {
      const std::string letter(1, static_cast<char>('A' + i));
      EXPECT_NEAR(run.answers[0][1].scores[i],
                  naive(prompt, *loaded_.tokenizer->id_of(letter)) +
                      naive(prompt, *loaded_.tokenizer->id_of("▁" + letter)),
                  1e-4);
    }
  };
  const std::vector<const ExamQuestion*> shots = {&subjects[0].shots[0], &subjects[0].shots[1]};
  const std::vector<Message> messages =
      exam_messages(options.protocol, subjects[0], shots, subjects[0].questions[1], true);
  ASSERT_EQ(messages.size(), 5u);
  expect_both(run_exam(loaded_, subjects, options, {}),
              options.chat->encode_prompt(*loaded_.tokenizer, messages));

  options.chat = nullptr;
  options.letters = "both";
  const std::string text =
      exam_text(options.protocol, subjects[0], shots, subjects[0].questions[1], true);
  const ExamRun both = run_exam(loaded_, subjects, options, {});
  expect_both(both, raw_prompt(*loaded_.tokenizer, text));
  options.letters = "auto";  // C-Eval's own: the words
  const ExamRun words = run_exam(loaded_, subjects, options, {});
  const TokenId word = *loaded_.tokenizer->id_of("▁C");
  EXPECT_NEAR(words.answers[0][1].scores[2], naive(raw_prompt(*loaded_.tokenizer, text), word),
              1e-4);
}

// C-Eval never guesses: what its rules find in the answer, or nothing.
TEST_F(ExamRunTest, CevalExtractsByItsRules) {
  load(1024);
  const auto subjects = exam(ExamSuite::kCeval, 1, "logic");
  std::set<char> choices;
  for (const bool cot : {false, true}) {
    ExamOptions options{.protocol = {ExamSuite::kCeval, false, cot}, .extract = true};
    options.max_new_tokens = 40;
    const ExamRun run = run_exam(loaded_, subjects, options, {});
    for (size_t q = 0; q < run.answers[0].size(); ++q) {
      const ExamAnswer& answer = run.answers[0][q];
      EXPECT_FALSE(answer.response.empty());
      EXPECT_EQ(answer.choice, extract_answer(ExamSuite::kCeval, trim(answer.response),
                                              subjects[0].questions[q].choices));
      EXPECT_FALSE(answer.guessed);
      choices.insert(answer.choice);
    }
  }
  EXPECT_GT(choices.size(), 1u) << "all answers are alike: the test shows nothing";
}

TEST_F(ExamRunTest, ExtractsOrGuesses) {
  load(1024);
  const auto subjects = exam(ExamSuite::kCmmlu, 1, "nutrition");
  ExamOptions options{.protocol = {ExamSuite::kCmmlu}, .extract = true};
  options.max_new_tokens = 3;
  const ExamRun run = run_exam(loaded_, subjects, options, {});
  const ExamRun again = run_exam(loaded_, subjects, options, {});
  for (size_t q = 0; q < 2; ++q) {
    EXPECT_NE(run.answers[0][q].choice, 0);
    EXPECT_EQ(run.answers[0][q].choice, again.answers[0][q].choice);
    EXPECT_EQ(run.answers[0][q].response, again.answers[0][q].response);
  }
}

TEST_F(ExamRunTest, LettersAreWordsOrPieces) {
  load(64);
  const Tokenizer& tokenizer = *loaded_.tokenizer;
  EXPECT_EQ(letter_tokens(tokenizer, "bare")[1], *tokenizer.id_of("B"));
  // This vocabulary has no "▁A": all four words begin with "▁".
  EXPECT_THROW(letter_tokens(tokenizer, "word"), Error);
}

}  // namespace
}  // namespace llama2zh
