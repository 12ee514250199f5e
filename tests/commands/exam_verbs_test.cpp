// evaluate ceval and cmmlu as a user runs them: files they write, what they refuse.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "commands/verb_test.h"
#include "eval/exam_test_util.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"

namespace llama2zh {
namespace {

class ExamVerbs : public VerbTest {
 protected:
  static void SetUpTestSuite() {
    make_folder("exams");
    testing::write_small_exam(folder_);
    std::ofstream text(folder_ / "text.txt");
    for (int i = 0; i < 50; ++i)
      text << "以下是关于" << i << "的单项选择题，请直接给出正确答案：A B C D。\n";
    text.close();
    run({"train-tokenizer", "--input", "text.txt", "--vocab-size", "330", "--output", "t.model"});
    run({"init-model", "--tokenizer", "t.model", "--hidden-size", "32", "--intermediate-size", "64",
         "--num-hidden-layers", "1", "--num-attention-heads", "2", "--num-key-value-heads", "2",
         "--max-position-embeddings", "1024", "--output", "model"});
  }
  static std::string text_of(const std::string& name) { return read_file(folder_ / name); }
};

TEST_F(ExamVerbs, WriteAllThatANumberDependsOn) {
  run({"evaluate", "cmmlu", "--model", "model", "--data", "cmmlu", "--shots", "1", "--subjects",
       "nutrition", "--output", "out"});
  const json result = json::parse(text_of("out/results.json"));
  EXPECT_EQ(result["exam"], "cmmlu");
  EXPECT_EQ(result["split"], "test");
  EXPECT_EQ(result["options"]["shots"], 1);
  for (const char* hash : {"prompts_sha256", "model_hash", "tokenizer_sha256"})
    EXPECT_EQ(result[hash].get<std::string>().size(), 64u) << hash;
  EXPECT_GT(result["cached_tokens"], 0);
  EXPECT_EQ(result["subjects"][0]["questions"], 2);
  EXPECT_NE(text_of("out/results.csv").find("\nnutrition,营养学,Other,2,"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out/submission.json"));
  expect_failure({"evaluate", "cmmlu", "--model", "model", "--data", "cmmlu", "--shots", "1",
                  "--subjects", "nutrition", "--output", "out"},
                 2, {"out", "--overwrite"});
}

// One weight of the last row of the embedding is another model.
TEST_F(ExamVerbs, HashTheWholeModel) {
  const auto hash_of = [](const std::string& model) {
    return json::parse(run({"evaluate", "cmmlu", "--model", model, "--data", "cmmlu", "--shots",
                            "0", "--subjects", "nutrition", "--limit", "1", "--json"}));
  };
  const json listed = hash_of("model");
  std::filesystem::copy(folder_ / "model", folder_ / "foreign");
  std::filesystem::remove(folder_ / "foreign/llama2zh_manifest.json");
  const json read = hash_of("foreign");
  EXPECT_EQ(read["model_hash"], listed["model_hash"]);
  EXPECT_EQ(read["model_files"], listed["model_files"]);
  const std::filesystem::path weights = folder_ / "foreign/model.safetensors";
  std::string bytes = read_file(weights);
  bytes.back() ^= 1;
  write_file_atomic(weights, bytes);
  EXPECT_NE(hash_of("foreign")["model_hash"], listed["model_hash"]);
}

// C-Eval, thought over and extracted: what was generated stands in the predictions, and the choice is
// what the rules find in it.
TEST_F(ExamVerbs, ThinkAndExtract) {
  run({"evaluate", "ceval", "--model", "model", "--data", "ceval", "--subjects", "logic", "--shots",
       "1", "--cot", "--max-new-tokens", "24", "--output", "thought"});
  const json result = json::parse(text_of("thought/results.json"));
  EXPECT_EQ(result["score"], "extract");
  std::istringstream rows(text_of("thought/predictions.jsonl"));
  int count = 0;
  for (std::string line; std::getline(rows, line); ++count) {
    const json row = json::parse(line);
    EXPECT_FALSE(row["response"].get<std::string>().empty()) << line;
    EXPECT_EQ(row["response"].get<std::string>().find("让我们一步一步思考"), std::string::npos);
    EXPECT_FALSE(row.contains("logprobs")) << line;
  }
  EXPECT_EQ(count, 3);
  run({"evaluate", "ceval", "--model", "model", "--data", "ceval", "--subjects", "logic", "--shots",
       "1", "--score", "extract", "--max-new-tokens", "24", "--output", "plain"});
  EXPECT_NE(json::parse(text_of("plain/results.json"))["prompts_sha256"], result["prompts_sha256"]);
  // Without explanations the model goes on otherwise.
  EXPECT_NE(text_of("plain/predictions.jsonl"), text_of("thought/predictions.jsonl"));
}

TEST_F(ExamVerbs, MakeASubmissionOfUnpublishedAnswers) {
  const std::string table =
      run({"evaluate", "ceval", "--model", "model", "--data", "ceval", "--split", "test", "--shots",
           "1", "--prompt", "harness", "--output", "sub"});
  EXPECT_NE(table.find("not published"), std::string::npos);
  const json submission = json::parse(text_of("sub/submission.json"));
  ASSERT_EQ(submission["logic"].size(), 2u);
  EXPECT_TRUE(submission["logic"].contains("7"));
}

TEST_F(ExamVerbs, RefuseWhatDoesNotGoTogether) {
  const std::vector<std::string> base = {"evaluate", "ceval",  "--model",
                                         "nowhere",  "--data", "ceval"};
  const auto refused = [&](std::vector<std::string> more, const std::vector<std::string>& words) {
    more.insert(more.begin(), base.begin(), base.end());
    expect_failure(more, 2, words);
  };
  refused({"--prompt", "harness", "--cot"}, {"prompt", "official"});
  refused({"--cot", "--score", "logits"}, {"score"});
  refused({"--shots", "6"}, {"shots", "5"});
  refused({"--adapter", "mine=nowhere"}, {"mine=nowhere", "--adapter nowhere"});
  refused({"--chat-template", "chatml"}, {"chat_template", "--template chat"});
  refused({"--subjects", "logik", "--shots", "1"}, {"did you mean logic"});
}

}  // namespace
}  // namespace llama2zh
