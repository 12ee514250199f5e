// plot, plan, bench train and bench sft as a user runs them.
#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

#include "commands/tiny_base.h"
#include "commands/verb_test.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;

class TrainingVerbs : public VerbTest {
 protected:
  static void SetUpTestSuite() {
    make_folder("training-verbs");
    const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    source_ = source != nullptr ? source : ".";
    make_tiny_base(folder_);
  }
  // The report of `bench train` on the tiny shape, two steps of it.
  static json bench(const std::vector<std::string>& more) {
    std::vector<std::string> args = {
        "bench",    "train", "--shape",           "tiny", "--steps", "1",
        "--warmup", "1",     "--data.block_size", "32",   "--json"};
    args.insert(args.end(), more.begin(), more.end());
    return json::parse(run(args));
  }
  inline static std::string source_;
};

TEST_F(TrainingVerbs, PlotDrawsARunThatTrained) {
  run({"pretrain", "--model.path", "base", "--data.train_files", "text.txt", "--data.block_size",
       "64", "--data.validation_split", "0", "--lora.rank", "2", "--train.max_steps", "6",
       "--train.micro_batch_size", "1", "--output_dir", "run"});
  const std::string out =
      run({"plot", "run", "--keys", "loss,learning_rate", "--title", "a title"});
  EXPECT_THAT(out, HasSubstr("run/curves.svg"));
  EXPECT_THAT(out, HasSubstr("the last of 6"));
  const std::string svg = read_file(folder_ / "run/curves.svg");
  EXPECT_THAT(svg, HasSubstr("<svg"));
  EXPECT_THAT(svg, HasSubstr("a title"));
  EXPECT_THAT(svg, HasSubstr("learning rate"));
  expect_failure({"plot", "run", "--keys", "losss"}, 1,
                 {"no line of the log has a value of losss"});
  expect_failure({"plot", "run", "--output", "curves.pdf"}, 2, {"neither .svg nor .png"});
  expect_failure({"plot", "nowhere"}, 1, {"nowhere"});
}

TEST_F(TrainingVerbs, PlanIsSmallerWithMoreGpusAndStages) {
  const std::string table = run({"plan", "--config", source_ + "/configs/pretrain_7b.json",
                                 "--shapes", "7b", "--gpus", "1", "4"});
  EXPECT_THAT(table, HasSubstr("| 7b | 4 | 2 | yes |"));
  EXPECT_THAT(table, HasSubstr("embed_tokens and lm_head in full"));
  std::istringstream rows(run({"plan", "--shapes", "7b", "13b", "--gpus", "1", "4", "--json"}));
  std::vector<json> all;
  for (std::string line; std::getline(rows, line);) all.push_back(json::parse(line));
  ASSERT_EQ(all.size(), 2U * (2 + 6));  // one GPU has no stages
  for (size_t i = 0; i < all.size(); i += 2) {
    EXPECT_FALSE(all[i]["checkpointing"]);
    EXPECT_GT(all[i]["working"], all[i + 1]["working"]);
  }
  EXPECT_GT(all[2]["trained"], all[4]["trained"]);  // stages 0, 1 and 2 on four
  EXPECT_GT(all[2]["trained"], all[6]["trained"]);
  expect_failure({"plan", "--shapes", "9b"}, 2, {"there is no shape '9b'"});
}

TEST_F(TrainingVerbs, BenchTrainMeasuresWhatIsAsked) {
  const json all = bench({});
  EXPECT_EQ(all["what"], "train");
  EXPECT_EQ(all["block"], 32);
  for (const char* key : {"loss", "fwdbwd_s", "tok_s", "gemm_peak_gflops", "peak_gib"}) {
    EXPECT_GT(all[key], 0) << key;
  }
  const int64_t trained = all["trained"];
  // Embeddings and head of 512 rows of 64, of which 100 are left.
  EXPECT_EQ(bench({"--train.first_trained_row", "412"})["trained"], trained - 2 * 412 * 64);
  EXPECT_LT(bench({"--train.freeze", ".*lora_A.weight"})["trained"], trained);
  EXPECT_EQ(bench({"--distributed.zero_stage", "1", "--distributed.offload_optimizer"})["offload"],
            true);
  const std::vector<std::string> tiny = {"bench", "train", "--shape", "tiny"};
  const auto refused = [&](std::vector<std::string> more, const std::vector<std::string>& words) {
    more.insert(more.begin(), tiny.begin(), tiny.end());
    expect_failure(more, 2, words);
  };
  refused({"--model.peft_path", "adapter"}, {"model.peft_path"});
  refused({"--train.freeze", "nothing"}, {"freeze: \"nothing\" matches none"});
  refused({"--train.freeze", ".*"}, {"nothing is left to train"});
  refused({"--distributed.offload_optimizer"}, {"distributed.zero_stage 1"});
  refused({"--model.path", "base"}, {"expected either --shape or --model.path"});
}

TEST_F(TrainingVerbs, BenchSftCountsRows) {
  std::vector<std::string> args = {"bench",
                                   "sft",
                                   "--model.path",
                                   "base",
                                   "--data.train_files",
                                   source_ + "/assets/sft_zh.jsonl",
                                   "--data.template",
                                   "v0.2",
                                   "--steps",
                                   "1",
                                   "--warmup",
                                   "0",
                                   "--data.block_size",
                                   "1024",
                                   "--lora.rank",
                                   "2",
                                   "--json"};
  const json packed = json::parse(run(args));
  EXPECT_EQ(packed["what"], "sft");
  EXPECT_EQ(packed["packing"], true);
  EXPECT_GT(packed["rows"], 1);
  EXPECT_GT(packed["rows_s"], 0);
  args.push_back("--no-packing");
  const json padded = json::parse(run(args));
  EXPECT_EQ(padded["rows"], 1);
  expect_failure({"bench", "sft", "--shape", "tiny", "--data.train_files", "rows.json"}, 2,
                 {"model.tokenizer"});
}

}  // namespace
}  // namespace llama2zh
