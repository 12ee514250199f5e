// evaluate text and evaluate generate as a user runs them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

class ScoreVerbs : public VerbTest {
 protected:
  static void SetUpTestSuite() { make_folder("scores"); }
  static void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  static std::vector<json> rows_of(const std::string& name) {
    std::vector<json> rows;
    for (const std::string& line : split(read_file(folder_ / name), '\n'))
      if (!line.empty()) rows.push_back(parse_json(line, name));
    return rows;
  }
};

const std::vector<std::string> kText = {"evaluate", "text"};

std::vector<std::string> text_words(const std::vector<std::string>& args) {
  std::vector<std::string> words = kText;
  words.insert(words.end(), args.begin(), args.end());
  return words;
}

TEST_F(ScoreVerbs, ScoresRowsGroupsAndMeans) {
  write("predictions.jsonl",
        "{\"index\": 0, \"text\": \"今天天气很好，我们去公园。\"}\n"
        "{\"index\": 1, \"error\": \"no answer\"}\n"
        "{\"index\": 2, \"text\": \" a b c\"}\n");
  write("references.json",
        R"([{"input": "?", "target": "今天的天气真好！我们一起去公园吧。", "task": "x"},
            {"query": "?", "response": "答案", "task": "y"},
            {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a b c"}],
             "task": "x"}])");
  const json report = parse_json(
      run(text_words({"--predictions", "predictions.jsonl", "--references", "references.json",
                      "--by", "task", "--output", "scores.jsonl", "--words", "--json"})),
      "report");
  EXPECT_EQ(report["rows"], 3);
  EXPECT_EQ(report["failed_rows"], 1);
  EXPECT_NEAR(report["rouge-1"], (50.0 + 0 + 100) / 3, 1e-9);
  EXPECT_NEAR(report["groups"]["x"]["exact_match"], 50, 1e-9);
  EXPECT_EQ(report["groups"]["y"]["rouge-l"], 0);
  EXPECT_FALSE(report["groups"]["y"].contains("standard_errors"));  // of one row
  const std::vector<json> rows = rows_of("scores.jsonl");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0]["bleu-4"], 14.7087);
  EXPECT_EQ(rows[0]["prediction_words"][0], "今天天气");
  EXPECT_EQ(rows[1]["prediction"], "");
  EXPECT_EQ(rows[2]["group"], "x");
  expect_failure(text_words({"--predictions", "predictions.jsonl", "--references",
                             "references.json", "--output", "scores.jsonl"}),
                 2, {"scores.jsonl", "--overwrite"});
}

TEST_F(ScoreVerbs, LinesOfTextAndBothInOneFile) {
  write("p.txt", "好的\n\n世界\n");
  write("r.txt", "好的\n天空\n世界\n");
  const std::string lines = run(text_words({"--predictions", "p.txt", "--references", "r.txt"}));
  EXPECT_NE(lines.find("66.6667"), std::string::npos) << lines;
  write("both.jsonl", "{\"prompt\": \"?\", \"predict\": \"你好\", \"label\": \"你好\"}\n");
  const json both = parse_json(run(text_words({"--predictions", "both.jsonl", "--json"})), "both");
  EXPECT_EQ(both["exact_match"], 100);
  const json keyed = parse_json(run(text_words({"--predictions", "both.jsonl", "--prediction-key",
                                                "prompt", "--reference-key", "label", "--json"})),
                                "keyed");
  EXPECT_EQ(keyed["exact_match"], 0);
}

TEST_F(ScoreVerbs, WhatCannotBeScoredIsNamed) {
  write("one.txt", "好\n");
  write("two.txt", "好\n天\n");
  write("blank.txt", "好\n \n");
  write("text.jsonl", "{\"text\": \"好\"}\n");
  write("odd.jsonl", "{\"label\": \"好\"}\n{\"label\": 3}\n");
  const auto fails = [](const std::vector<std::string>& args, int code,
                        const std::vector<std::string>& words) {
    expect_failure(text_words(args), code, words);
  };
  fails({"--predictions", "one.txt", "--references", "two.txt"}, 1,
        {"two.txt:2", "one.txt has 1 rows"});
  fails({"--predictions", "two.txt", "--references", "one.txt"}, 1, {"two.txt:2", "no partner"});
  fails({"--predictions", "two.txt", "--references", "blank.txt"}, 1, {"blank.txt:2", "blank"});
  fails({"--predictions", "text.jsonl"}, 1, {"text.jsonl:1", "--references"});
  fails({"--predictions", "two.txt", "--references", "odd.jsonl", "--reference-key", "label"}, 1,
        {"odd.jsonl:2", "number"});
  fails({"--predictions", "one.txt", "--references", "one.txt", "--by", "task"}, 2, {"keys"});
  fails({"--predictions", "one.txt", "--references", "one.txt", "--words"}, 2, {"--output"});
  fails(
      {"--predictions", "one.txt", "--references", "one.txt", "--output", "one.txt", "--overwrite"},
      2, {"one.txt", "are read"});
}

// PromptCBLUE as it is published: its dev file has answers to score with, those of the test file are
// blank.
TEST_F(ScoreVerbs, ScoresPromptCblueAndSaysWhatItsTestFileIsFor) {
  const fs::path data = testing::shared_data();
  if (!fs::exists(data / "sft/promptcblue_toy_dev.json"))
    GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
  const fs::path sft = fs::canonical(data / "sft");
  const fs::path dev = sft / "promptcblue_toy_dev.json", test = sft / "promptcblue_toy_test.json";
  expect_failure({"evaluate", "generate", "--model", "nowhere", "--input", test, "--output", "a"},
                 1, {"promptcblue_toy_test.json", "blank", "llama2zh generate --input"});
  // Answers that are right but for the last one.
  std::vector<json> rows;
  for (const std::string& line : split(read_file(dev), '\n'))
    if (!line.empty()) rows.push_back(parse_json(line, "dev"));
  std::string answers;
  for (size_t i = 0; i < rows.size(); ++i)
    answers +=
        json{{"text", i + 1 < rows.size() ? rows[i]["target"].get<std::string>() : ""}}.dump() +
        "\n";
  write("cblue.jsonl", answers);
  const json report = parse_json(run(text_words({"--predictions", "cblue.jsonl", "--references",
                                                 dev, "--by", "task_type", "--json"})),
                                 "report");
  const auto count = static_cast<double>(rows.size());
  EXPECT_NEAR(report["exact_match"].get<double>(), 100 * (count - 1) / count, 1e-6);
  EXPECT_EQ(report["blank_predictions"], 1);
  EXPECT_GT(report["groups"].size(), 1u);
}

TEST_F(ScoreVerbs, AnswersATestSetAndScoresIt) {
  if (!fs::exists(testing::shared_data()))
    GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
  const fs::path data = fs::canonical(testing::shared_data());
  write("test.json",
        R"([{"input": "Once upon a time", "target": "好"},
            {"instruction": "Once", "input": "", "output": "upon"},
            {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]}])");
  std::vector<std::string> words = {"evaluate",
                                    "generate",
                                    "--model",
                                    data / "weights/stories260K_hf",
                                    "--tokenizer",
                                    data / "tokenizers/tok512_from_bin.model",
                                    "--template",
                                    "llama2",
                                    "--temperature",
                                    "0",
                                    "--max-new-tokens",
                                    "12",
                                    "--input",
                                    "test.json",
                                    "--output",
                                    "answers.jsonl",
                                    "--scores",
                                    "answered.jsonl",
                                    "--json"};
  const json report = parse_json(run(words), "report");
  EXPECT_EQ(report["rows"], 3);
  EXPECT_EQ(report["failed_rows"], 0);
  EXPECT_EQ(report["settings"]["max_new_tokens"], 12);
  const std::vector<json> answers = rows_of("answers.jsonl"), scores = rows_of("answered.jsonl");
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(scores[1]["reference"], "upon");
  EXPECT_EQ(scores[2]["prediction"], answers[2]["text"]);
  // The same numbers as of the two files.
  const json apart = parse_json(
      run(text_words({"--predictions", "answers.jsonl", "--references", "test.json", "--json"})),
      "apart");
  for (const char* key : {"rouge-1", "bleu-4", "chrf", "corpus_chrf"})
    EXPECT_EQ(report[key], apart[key]) << key;
  expect_failure(words, 2, {"answers.jsonl", "evaluate text", "--overwrite"});
  write("unanswered.json", R"([{"messages": [{"role": "user", "content": "hi"}]}])");
  words[13] = "unanswered.json";
  words[15] = "other.jsonl";
  words.emplace_back("--overwrite");
  expect_failure(words, 1, {"unanswered.json:1", "answer to compare"});
}

}  // namespace
}  // namespace llama2zh
