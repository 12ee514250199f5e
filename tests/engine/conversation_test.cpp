#include "llama2zh/engine/conversation.h"

#include <gtest/gtest.h>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

class Conversation : public ::testing::Test {
 protected:
  FittedPrompt fit(const std::vector<Message>& messages, int64_t context, int64_t max_new_tokens) {
    return fit_prompt(template_, tokenizer_, messages, context, max_new_tokens);
  }
  int64_t length(const std::vector<Message>& messages) {
    return static_cast<int64_t>(template_.encode_prompt(tokenizer_, messages).size());
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {});
  const ChatTemplate& template_ = ChatTemplate::get("llama2");
  std::vector<Message> messages_ = {{Role::kSystem, "be brief"}, {Role::kUser, "first question"},
                                    {Role::kAssistant, "one"},   {Role::kUser, "second question"},
                                    {Role::kAssistant, "two"},   {Role::kUser, "third"}};
};

TEST_F(Conversation, KeepsEverythingThatFits) {
  const int64_t whole = length(messages_);
  const FittedPrompt prompt = fit(messages_, whole + 20, 20);
  EXPECT_EQ(prompt.dropped_turns, 0);
  EXPECT_EQ(prompt.ids, template_.encode_prompt(tokenizer_, messages_));
}

TEST_F(Conversation, DropsTheOldestTurnsAndKeepsTheSystemText) {
  const int64_t whole = length(messages_);
  std::vector<Message> rest = messages_;
  rest.erase(rest.begin() + 1, rest.begin() + 3);
  FittedPrompt prompt = fit(messages_, whole + 20 - 1, 20);
  EXPECT_EQ(prompt.dropped_turns, 1);
  EXPECT_EQ(prompt.ids, template_.encode_prompt(tokenizer_, rest));
  prompt = fit(messages_, length(rest) + 20 - 1, 20);
  EXPECT_EQ(prompt.dropped_turns, 2);
  EXPECT_EQ(prompt.ids,
            template_.encode_prompt(tokenizer_, std::vector<Message>{messages_[0], messages_[5]}));
}

TEST_F(Conversation, LongAnswersReserveHalfTheContextAtMost) {
  const std::vector<Message> last = {messages_[0], messages_[5]};
  EXPECT_EQ(fit(messages_, 2 * length(messages_), 1000000).dropped_turns, 0);
  EXPECT_EQ(fit(last, length(last) + 1, 1000000).dropped_turns, 0);
}

TEST_F(Conversation, AMessageBeyondTheContextIsRefused) {
  const std::vector<Message> last = {messages_[0], messages_[5]};
  try {
    fit(messages_, length(last), 10);
    FAIL() << "no room for an answer, and no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kData);
  }
}

}  // namespace
}  // namespace llama2zh
