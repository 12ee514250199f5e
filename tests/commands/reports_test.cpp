// vocab report, data stats and data check as a user runs them.
#include <fstream>

#include "commands/verb_test.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

class Reports : public VerbTest {
 protected:
  static void SetUpTestSuite() {
    make_folder("reports");
    const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    const auto assets = std::filesystem::path(source != nullptr ? source : ".") / "assets";
    std::filesystem::copy_file(assets / "sft_zh.jsonl", folder_ / "train.jsonl");
    std::ifstream in(folder_ / "train.jsonl");
    std::ofstream text(folder_ / "zh.txt"), test(folder_ / "test.jsonl");
    std::ofstream good(folder_ / "good.jsonl");
    int number = 0;
    for (std::string line; std::getline(in, line);) {
      // The second row's question is the first one's without its question mark.
      if (++number != 2) good << line << "\n";
      const json row = json::parse(line);
      for (const auto& turn : row["conversations"])
        text << turn["value"].get<std::string>() << "\n";
      if (test.tellp() == 0) test << line << "\n";
    }
    text.close();
    for (const char* size : {"1000", "1500"})
      run({"train-tokenizer", "--input", "zh.txt", "--vocab-size", size, "--character-coverage",
           "0.98", "--output", cat("zh", size, ".model")});
  }
  static std::vector<std::string> data_args(const std::string& verb) {
    return {"data", verb, "--model.tokenizer", "zh1500.model", "--data.train-files", "train.jsonl"};
  }
};

TEST_F(Reports, VocabReportComparesTokenizers) {
  const std::string out = run({"vocab", "report", "--tokenizer", "zh1000.model", "zh1500.model",
                               "--name", "small", "large", "--file", "talk=zh.txt", "--hidden-size",
                               "64", "--output", "report", "--json"});
  const json report = json::parse(out);
  const json& small = report["tokenizers"][0];
  const json& large = report["tokenizers"][1];
  EXPECT_EQ(small["name"], "small");
  EXPECT_GT(small["domains"]["talk"]["tokens"], large["domains"]["talk"]["tokens"]);
  EXPECT_EQ(large["cost"]["parameters_added"], (1500 - 1000) * 64 * 2);
  EXPECT_FALSE(small.contains("changed"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "report" / "vocab_report.json"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "report" / "vocab_report.md"));
  expect_failure(
      {"vocab", "report", "--tokenizer", "zh1000.model", "--file", "zh.txt", "--name", "a", "b"}, 2,
      {"name", "one a tokenizer"});
}

TEST_F(Reports, DataStatsReportsAndCheckFails) {
  std::vector<std::string> stats = data_args("stats");
  stats.insert(stats.end(), {"--data.validation-files", "test.jsonl", "--plot", "lengths.svg"});
  std::vector<std::string> as_json = stats;
  as_json.push_back("--json");
  const json report = json::parse(run(as_json));
  EXPECT_GT(report["train"]["rows"], 0);
  EXPECT_EQ(report["test"][0]["in_training"]["rows"], 1);
  EXPECT_FALSE(report["problems"].empty());
  EXPECT_TRUE(std::filesystem::exists(folder_ / "lengths.svg"));
  std::vector<std::string> check = stats;
  check[1] = "check";
  const ProgramResult failed = run_program(folder_, check);
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_NE(failed.out.find("rows that training has too"), std::string::npos) << failed.out;
}

TEST_F(Reports, DataCheckPassesGoodRows) {
  std::vector<std::string> check = data_args("check");
  check.back() = "good.jsonl";
  check.insert(check.end(), {"--data.block-size", "4096"});
  const std::string out = run(check);
  EXPECT_NE(out.find("no problem found"), std::string::npos) << out;
}

}  // namespace
}  // namespace llama2zh
