// vocab report, data stats and data check as a user runs them.
#include <fstream>

#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
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

// What a vocabulary costs and saves, recomputed by hand.
TEST_F(Reports, VocabReportWeighsTheVocabulary) {
  run({"init-model", "--tokenizer", "zh1000.model", "--hidden-size", "32", "--intermediate-size",
       "48", "--num-hidden-layers", "1", "--num-attention-heads", "2", "--num-key-value-heads", "2",
       "--output", "model"});
  const json report =
      json::parse(run({"vocab", "report", "--tokenizer", "zh1000.model", "zh1500.model", "--file",
                       "zh.txt", "--model", "model", "--json"}));
  const json &first = report["tokenizers"][0], &second = report["tokenizers"][1];
  const bool full =
      json::parse(read_file(folder_ / "model/config.json"))["torch_dtype"] == "float32";
  EXPECT_EQ(second["cost"]["bytes_added"], 500 * 32 * 2 * (full ? 4 : 2));
  constexpr double kBody = 4 * 32 * 32 + 3 * 32 * 48 + 3 * 32;
  EXPECT_EQ(report["body_parameters"], kBody);
  const double expected = first["total"]["tokens"].get<double>() * (kBody + 1000 * 32) /
                          (second["total"]["tokens"].get<double>() * (kBody + 1500 * 32));
  EXPECT_NEAR(second["cost"]["expected_speed_up"].get<double>(), expected, 1e-4);
  EXPECT_EQ(first["cost"]["expected_speed_up"], 1.0);
  // The text made these vocabularies and needs most of them; the rest is named.
  EXPECT_EQ(second["dead"], second["dead_pieces"].size());
  EXPECT_GT(second["dead"], 0);
  EXPECT_LT(second["dead"], 750);
  const std::string text =
      run({"vocab", "report", "--tokenizer", "zh1500.model", "--file", "zh.txt"});
  EXPECT_NE(text.find("not used by this text: " + second["dead_pieces"][0].get<std::string>()),
            std::string::npos)
      << text;
}

TEST_F(Reports, ExtendVocabWritesTheSameReport) {
  const json out =
      json::parse(run({"extend-vocab", "--tokenizer", "zh1000.model", "--extension", "zh1500.model",
                       "--output", "grown", "--report-text", "zh.txt", "--json"}));
  json written = json::parse(read_file(folder_ / "grown/vocab_report.json"));
  EXPECT_EQ(out["vocab_report"], written);
  json apart = json::parse(run({"vocab", "report", "--tokenizer", "zh1000.model", "grown", "--name",
                                "before", "after", "--file", "zh.txt", "--json"}));
  EXPECT_EQ(apart, written);
  EXPECT_EQ(out["texts"][0]["tokens_after"], written["tokenizers"][1]["total"]["tokens"]);
  EXPECT_NE(read_file(folder_ / "grown/vocab_report.md").find("characters per token"),
            std::string::npos);
  run({"inspect", "grown"});  // the manifest knows the report
}

// A character that the vocabulary lacks is three bytes, and "▁", BOS and EOS stand around the row.
TEST_F(Reports, DataStatsCountsLengths) {
  std::ofstream rows(folder_ / "lengths.jsonl");
  for (const int characters : {1, 2, 5, 20}) {
    std::string text;
    for (int i = 0; i < characters; ++i) text += "龘";
    rows << json{{"text", text}}.dump() << "\n";
  }
  rows.close();
  const json report =
      json::parse(run({"data", "stats", "lengths.jsonl", "--model.tokenizer", "zh1500.model",
                       "--data.block-size", "64", "--plot", "counted.svg", "--json"}));
  const json& train = report["train"];
  EXPECT_EQ(train["tokens"], 6 + 9 + 18 + 63);
  EXPECT_EQ(train["supervised_share"], 1.0);
  const json& lengths = train["lengths"];
  EXPECT_EQ(lengths["min"], 6);
  EXPECT_EQ(lengths["median"], 9);
  EXPECT_EQ(lengths["max"], 63);
  std::vector<int64_t> histogram;
  for (const json& bar : lengths["histogram"]) {
    EXPECT_EQ(bar["from"].get<int64_t>() * 2, bar["below"].get<int64_t>());
    histogram.push_back(bar["rows"].get<int64_t>());
  }
  EXPECT_EQ(histogram, (std::vector<int64_t>{0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(lengths["histogram"][0]["from"], 1);
  const std::string plot = read_file(folder_ / "counted.svg");
  EXPECT_NE(plot.find("Lengths of 4 training rows"), std::string::npos);
  EXPECT_NE(plot.find("median 9"), std::string::npos);
}

TEST_F(Reports, NgramsAndNamesAreAsAsked) {
  const auto write = [](const std::string& name, const std::vector<std::string>& texts) {
    std::ofstream out(folder_ / name);
    for (const std::string& text : texts) out << json{{"text", text}}.dump() << "\n";
  };
  // Of the test row's 16 5-grams, 8 stand in the training row; of its 13-grams, none does.
  write("known.jsonl", {"甲乙丙丁戊己庚辛壬癸子丑", "天地"});
  write("asked.jsonl", {"甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉", "天地", "天地"});
  const auto overlapping = [](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"data",         "stats",
                                      "known.jsonl",  "--data.validation-files",
                                      "asked.jsonl",  "--model.tokenizer",
                                      "zh1500.model", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return json::parse(run(words));
  };
  const auto rows = [](const json& report) { return report["test"][0]["overlapping"]["rows"]; };
  EXPECT_EQ(rows(overlapping({})), 0);
  EXPECT_EQ(rows(overlapping({"--ngram", "5"})), 1);
  EXPECT_EQ(rows(overlapping({"--ngram", "5", "--ngram-share", "0.51"})), 0);
  EXPECT_EQ(rows(overlapping({"--ngram", "9", "--ngram-share", "0.3"})), 1);
  const json whole = overlapping({})["test"][0]["in_training"];
  EXPECT_EQ(whole["rows"], 2);
  EXPECT_EQ(whole["first"].size(), 2u);
  const json named = overlapping({"--named", "1"})["test"][0]["in_training"];
  EXPECT_EQ(named["rows"], 2);
  EXPECT_EQ(named["first"].size(), 1u);
}

TEST_F(Reports, DataStatsReportsAndCheckFails) {
  std::vector<std::string> stats = data_args("stats");
  stats.insert(stats.end(), {"--data.validation-files", "test.jsonl", "--plot", "lengths.svg"});
  std::vector<std::string> as_json = stats;
  as_json.push_back("--json");
  const json report = json::parse(run(as_json));
  EXPECT_GT(report["train"]["rows"], 0);
  const double tokens = report["train"]["tokens"], supervised = report["train"]["supervised"];
  EXPECT_GT(supervised, 0);
  EXPECT_LT(supervised, tokens);
  EXPECT_NEAR(report["train"]["supervised_share"].get<double>(), supervised / tokens, 1e-4);
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
