#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "llama2zh/data/datasets.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

using testing::expect_error;

// "system: S | user: Q | assistant: A"
std::string parsed(const std::string& row, const std::string& format = "auto") {
  std::string out;
  for (const Message& message : parse_dialogue(json::parse(row), format, "f.json:3"))
    out +=
        (out.empty() ? "" : " | ") + std::string(role_name(message.role)) + ": " + message.content;
  return out;
}

TEST(ParseDialogue, Conversations) {
  EXPECT_EQ(parsed(R"({"id": "1", "conversations": [{"from": "human", "value": "甲"},
                      {"from": "gpt", "value": "乙"}]})"),
            "user: 甲 | assistant: 乙");
  EXPECT_EQ(parsed(R"({"messages": [{"role": "system", "content": "S"},
                      {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}],
                      "system": "not this one"})"),
            "system: S | user: Q | assistant: A");
  EXPECT_EQ(parsed(R"({"system": "S", "conversations": [{"from": "human", "value": "Q"},
                      {"from": "assistant", "value": "A"}]})"),
            "system: S | user: Q | assistant: A");
  EXPECT_EQ(parsed(R"({"conversations": [{"from": "human", "value": "Q"}],
                      "chosen": {"from": "gpt", "value": "good"},
                      "rejected": {"from": "gpt", "value": "bad"}})"),
            "user: Q | assistant: good");
}

TEST(ParseDialogue, AlpacaAndQueryResponse) {
  EXPECT_EQ(parsed(R"({"instruction": "I", "input": "", "output": "O"})"),
            "user: I | assistant: O");
  EXPECT_EQ(parsed(R"({"instruction": "I", "input": "X", "output": "O", "system": "S"})"),
            "system: S | user: I\nX | assistant: O");
  EXPECT_EQ(
      parsed(R"({"instruction": "I", "input": null, "output": "O", "history": [["a", "b"]]})"),
      "user: a | assistant: b | user: I | assistant: O");
  EXPECT_EQ(parsed(R"({"instruction": "I", "instances": [{"input": "X", "output": "O"}]})"),
            "user: I\nX | assistant: O");
  EXPECT_EQ(parsed(R"({"query": "Q", "response": "R"})"), "user: Q | assistant: R");
  EXPECT_EQ(parsed(R"({"input": "Q", "target": "R", "answer_choices": null})"),
            "user: Q | assistant: R");
  EXPECT_EQ(parsed(R"({"instruction": "I", "output": "O", "query": "Q", "response": "R"})",
                   "query_response"),
            "user: Q | assistant: R");
}

TEST(ParseDialogue, BadRowsAreNamed) {
  const auto fails = [](const char* row, const std::string& part, const char* format = "auto") {
    expect_error(ErrorKind::kData, "f.json:3: " + part, [&] { parsed(row, format); });
  };
  fails(R"({"text": "a"})", "no known form of dialogue (keys: text)");
  fails(R"({"conversations": 3})", "\"conversations\": expected a list of turns");
  fails(R"({"conversations": []})", "the dialogue has no turns");
  fails(R"({"conversations": [{"from": "alien", "value": "x"}]})", "unknown role \"alien\"");
  fails(R"({"conversations": [{"from": "human", "value": 1}]})", "\"value\": expected a text");
  fails(R"({"conversations": [{"from": "human"}]})", "the row has no key \"value\"");
  fails(R"({"conversations": ["x"]})", "a turn has to be an object");
  fails(R"({"instruction": "I"})", "the row has no key \"output\"");
  fails(R"({"instruction": "I", "instances": []})", "\"instances\"");
  fails(R"({"query": "Q", "response": null})", "\"response\": expected a text, found null");
  fails(R"({"query": "Q", "response": "R", "history": [["a"]]})", "\"history\"");
  fails(R"({"query": "Q", "response": "R"})", "the row has no key \"instruction\"", "alpaca");
}

TEST(GuessRowKind, ByTheFirstRow) {
  const testing::TemporaryFolder folder;
  const auto kind = [&](const char* name, const char* text) {
    return guess_row_kind(folder.write(name, text).string());
  };
  EXPECT_EQ(kind("a.txt", "甲"), RowKind::kPretrain);
  EXPECT_EQ(kind("a.json", R"([{"input": "甲"}])"), RowKind::kPretrain);
  EXPECT_EQ(kind("b.json", R"([{"input": "甲", "target": "乙"}])"), RowKind::kSft);
  EXPECT_EQ(kind("c.json", R"({"conversations": []})"), RowKind::kSft);
}

}  // namespace
}  // namespace llama2zh
