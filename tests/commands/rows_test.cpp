// generate over a file of rows, and the benches of inference, as a user runs them, on stories260K.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "commands/run_program.h"
#include "commands/started_program.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

class RowVerbs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(testing::shared_data()))
      GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
    const fs::path data = fs::canonical(testing::shared_data());
    folder_ = fs::temp_directory_path() / ("llama2zh-rows-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    model_ = {"--model", data / "weights/stories260K_hf", "--tokenizer",
              data / "tokenizers/tok512_from_bin.model"};
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::vector<std::string> words(std::vector<std::string> verb,
                                 const std::vector<std::string>& args) {
    verb.insert(verb.end(), model_.begin(), model_.end());
    verb.insert(verb.end(), args.begin(), args.end());
    return verb;
  }
  std::vector<std::string> rows_words(const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"--input", "rows.jsonl",    "--output", "out.jsonl",
                                     "--raw",   "--temperature", "0",        "--max-new-tokens",
                                     "60"};
    args.insert(args.end(), more.begin(), more.end());
    return words({"generate"}, args);
  }
  void write_rows(int count) {
    std::ofstream rows(folder_ / "rows.jsonl");
    for (int i = 0; i < count; ++i)
      rows << R"({"prompt": "Once upon a time number )" << i << "\"}\n" << (i == 2 ? "\n" : "");
  }
  std::vector<json> output() {
    std::vector<json> rows;
    for (const std::string& line : split(read_file(folder_ / "out.jsonl"), '\n'))
      if (!line.empty()) rows.push_back(parse_json(line, "out.jsonl"));
    return rows;
  }
  fs::path partial() const { return folder_ / "out.jsonl.llama2zh.partial"; }

  fs::path folder_;
  std::vector<std::string> model_;
};

TEST_F(RowVerbs, EachRowGetsTheAnswerThatItGetsAlone) {
  write_rows(9);
  const ProgramResult result = run_program(folder_, rows_words());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<json> rows = output();
  ASSERT_EQ(rows.size(), 9u);
  EXPECT_FALSE(fs::exists(partial()));
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["index"], i);
    EXPECT_EQ(rows[i]["new_tokens"], 60);
    if (i % 4 != 0) continue;
    const ProgramResult alone = run_program(
        folder_, words({"generate"}, {"--raw", "--temperature", "0", "--max-new-tokens", "60",
                                      "--prompt", cat("Once upon a time number ", i)}));
    EXPECT_EQ(alone.out, rows[i]["text"].get<std::string>() + "\n");
  }
  // It is there: another start must not overwrite it unasked.
  const ProgramResult again = run_program(folder_, rows_words());
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_NE(again.err.find("--overwrite"), std::string::npos);
  EXPECT_EQ(run_program(folder_, rows_words({"--overwrite"})).exit_code, 0);
  EXPECT_EQ(output(), rows);
}

TEST_F(RowVerbs, AnAdapterThatIsNotThereIsTheRowsFault) {
  std::ofstream(folder_ / "rows.jsonl") << "{\"prompt\": \"Once\", \"adapter\": \"tales\"}\n"
                                        << "{\"prompt\": \"Once\", \"adapter\": \"\"}\n";
  const ProgramResult result = run_program(folder_, rows_words());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<json> rows = output();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_NE(rows[0]["error"].get<std::string>().find("tales"), std::string::npos);
  EXPECT_EQ(rows[1]["new_tokens"], 60);
}

TEST_F(RowVerbs, DialoguesAndBadRows) {
  std::ofstream(folder_ / "rows.jsonl")
      << R"({"messages": [{"role": "user", "content": "hi"}]})"
      << "\n"
      << R"({"instruction": "say", "input": "a word"})"
      << "\n"
      << "{broken\n"
      << R"({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "x"}]})"
      << "\n"
      << R"({"nothing": "known"})"
      << "\n"
      << R"({"prompt": "hi", "system": "be brief"})"
      << "\n";
  const ProgramResult result = run_program(
      folder_, words({"generate"}, {"--input", "rows.jsonl", "--output", "out.jsonl", "--template",
                                    "llama2", "--temperature", "0", "--max-new-tokens", "5"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<json> rows = output();
  ASSERT_EQ(rows.size(), 6u);
  EXPECT_EQ(rows[0]["text"], rows[3]["text"]);  // the answer that is there is no part of the prompt
  EXPECT_EQ(rows[0]["prompt_tokens"], rows[3]["prompt_tokens"]);
  EXPECT_GT(rows[5]["prompt_tokens"], rows[0]["prompt_tokens"]);
  EXPECT_TRUE(rows[1].contains("text"));
  EXPECT_NE(rows[2]["error"].get<std::string>().find("rows.jsonl:3"), std::string::npos);
  EXPECT_NE(rows[4]["error"].get<std::string>().find("rows.jsonl:5"), std::string::npos);
  EXPECT_NE(result.err.find("2 of them without an answer"), std::string::npos) << result.err;
}

TEST_F(RowVerbs, GoesOnAfterAnInterruption) {
  write_rows(300);
  {
    StartedProgram first(folder_, rows_words({"--max-running", "2"}));
    const auto begun = [&] { return fs::exists(partial()) && fs::file_size(partial()) > 2000; };
    ASSERT_TRUE(wait_until(begun)) << first.err();
    first.signal(SIGINT);
    EXPECT_EQ(first.wait(), 128 + SIGINT);
  }
  ASSERT_FALSE(fs::exists(folder_ / "out.jsonl"));
  std::ofstream(partial(), std::ios::app) << R"({"index": 299, "te)";  // as a crash leaves it
  const ProgramResult other = run_program(folder_, rows_words({"--seed", "4"}));
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_NE(other.err.find("other options"), std::string::npos) << other.err;
  const ProgramResult second = run_program(folder_, rows_words());
  ASSERT_EQ(second.exit_code, 0) << second.err;
  EXPECT_NE(second.err.find("going on behind"), std::string::npos);
  const std::vector<json> resumed = output();
  ASSERT_EQ(resumed.size(), 300u);
  ASSERT_EQ(run_program(folder_, rows_words({"--overwrite"})).exit_code, 0);
  EXPECT_EQ(output(), resumed);
}

TEST_F(RowVerbs, OptionsThatDoNotGoTogether) {
  write_rows(1);
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"--prompt", "a"}, {"--json"}}) {
    EXPECT_EQ(run_program(folder_, rows_words(more)).exit_code, 2);
  }
  EXPECT_EQ(run_program(folder_, words({"generate"}, {"--input", "rows.jsonl"})).exit_code, 2);
  EXPECT_EQ(run_program(folder_, words({"generate"}, {"--output", "o", "--prompt", "a"})).exit_code,
            2);
}

TEST_F(RowVerbs, AnswersTellWhatTheyWereChosenBy) {
  const ProgramResult one = run_program(
      folder_,
      words({"generate"}, {"--prompt", "Once upon", "--raw", "--max-new-tokens", "5", "--best-of",
                           "4", "--num-return-sequences", "2", "--logprobs", "2", "--json"}));
  ASSERT_EQ(one.exit_code, 0) << one.err;
  const json answer = parse_json(one.out, "generate");
  ASSERT_EQ(answer["texts"].size(), 2u);
  ASSERT_EQ(answer["logprobs"].size(), 2u);
  double sums[2] = {0, 0};
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(answer["logprobs"][i].size(), 5u);
    for (const json& token : answer["logprobs"][i]) {
      EXPECT_LE(token["logprob"], token["top"][0]["logprob"]);
      ASSERT_EQ(token["top"].size(), 2u);
      sums[i] += token["logprob"].get<double>();
    }
  }
  EXPECT_GE(sums[0], sums[1]);
  const ProgramResult refused =
      run_program(folder_, words({"generate"}, {"--prompt", "x", "--raw", "--logprobs", "2"}));
  EXPECT_EQ(refused.exit_code, 2);

  write_rows(3);
  const ProgramResult rows = run_program(folder_, rows_words({"--logprobs", "1"}));
  ASSERT_EQ(rows.exit_code, 0) << rows.err;
  for (const json& row : output()) {
    EXPECT_EQ(row["logprobs"].size(), row["new_tokens"]);
    EXPECT_EQ(row["logprobs"][0]["top"][0]["id"], row["logprobs"][0]["id"]);  // greedy
  }
}

TEST_F(RowVerbs, AnswersAreHeldToAForm) {
  const auto answer = [&](const std::vector<std::string>& form) {
    std::vector<std::string> args = {"--prompt", "Once upon", "--raw", "--json"};
    args.insert(args.end(), form.begin(), form.end());
    const ProgramResult result = run_program(folder_, words({"generate"}, args));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return parse_json(result.out, "generate")["text"].get<std::string>();
  };
  EXPECT_EQ(answer({"--pattern", "(ab){3}"}), "ababab");
  const std::string side = answer({"--choices", "left", "right"});
  EXPECT_TRUE(side == "left" || side == "right") << side;
  std::ofstream(folder_ / "g.gbnf") << "root ::= \"[\" [0-9]{2} \"]\"\n";
  EXPECT_EQ(answer({"--grammar", (folder_ / "g.gbnf").string()}).size(), 4u);
  const ProgramResult both = run_program(
      folder_, words({"generate"}, {"--prompt", "x", "--raw", "--pattern", "a", "--json-object"}));
  EXPECT_EQ(both.exit_code, 2);
}

TEST_F(RowVerbs, BenchesReport) {
  const ProgramResult through = run_program(
      folder_, words({"bench", "throughput"}, {"--requests", "5", "--input-tokens", "20",
                                               "--output-tokens", "6", "--json"}));
  ASSERT_EQ(through.exit_code, 0) << through.err;
  const json report = parse_json(through.out, "throughput");
  EXPECT_EQ(report["input_tokens"], 100);
  EXPECT_EQ(report["output_tokens"], 30);
  EXPECT_GT(report["tok_s"], report["output_tok_s"]);
  const ProgramResult generate = run_program(
      folder_, words({"bench", "generate"}, {"--prompt-tokens", "40", "--new-tokens", "8",
                                             "--batch", "1", "3", "--repetitions", "2", "--json"}));
  ASSERT_EQ(generate.exit_code, 0) << generate.err;
  const json results = parse_json(generate.out, "generate")["results"];
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0]["test"], "pp40");
  EXPECT_EQ(results[3]["test"], "tg8");
  EXPECT_EQ(results[3]["batch"], 3);
  EXPECT_GT(results[3]["tok_s"], 0);
  EXPECT_NEAR(results[3]["memory_limit_tok_s"].get<double>(),
              3 * results[1]["memory_limit_tok_s"].get<double>(),
              0.01 * results[3]["memory_limit_tok_s"].get<double>());
  EXPECT_FALSE(results[0].contains("share_of_memory_limit"));  // prompts are bound by arithmetic
}

}  // namespace
}  // namespace llama2zh
