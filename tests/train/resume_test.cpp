// A resumed run is the uninterrupted run: T1-T4, T7, T8 and T18 of the reliability notes, by name.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <numeric>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/config/load.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

// 27 rows in blocks of 16 with accumulation 4: no divisor of 10 is the number of steps an epoch, so that step 10 lies
// inside a later epoch.
TinyOptions resumable() {
  TinyOptions options;
  options.rows = 27;
  options.dropout = 0.1;
  options.train = tiny_trainer_config();
  return options;
}

void expect_all_equal(TinyRun& a, TinyRun& b) {
  const auto ours = a.everything(), theirs = b.everything();
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_EQ(ours[i].first, theirs[i].first);
    EXPECT_TRUE(bit_equal(ours[i].second, theirs[i].second)) << ours[i].first;
  }
}

void expect_same_log(const fs::path& a, const fs::path& b) {
  const auto ours = read_log(a), theirs = read_log(b);
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    for (const char* key : {"step", "loss", "grad_norm", "lr", "epoch", "supervised_tokens"}) {
      EXPECT_EQ(ours[i][key], theirs[i][key]) << key << " of line " << i;
    }
  }
}

void stop_at(const TinyOptions& options, const fs::path& folder, int64_t step) {
  TinyOptions first = options;
  first.train.stop_at_step = step;
  TinyRun run(first, folder);
  ASSERT_EQ(run.trainer().run(), TrainOutcome::kStopped);
}

void expect_bit_exact_resume(const TinyOptions& options) {
  const TempFolder straight_folder, folder;
  TinyRun straight(options, straight_folder.path());
  ASSERT_EQ(straight.trainer().run(), TrainOutcome::kFinished);
  stop_at(options, folder.path(), 10);
  TinyRun resumed(options, folder.path());
  const auto newest = newest_valid_checkpoint(folder.path());
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step, 10);
  const TrainingState state = read_training_state(newest->path);
  EXPECT_EQ(state.epoch, 1);
  EXPECT_GT(state.batch_index, 0) << "the checkpoint should lie inside an epoch";
  resumed.trainer().resume(newest->path, state);
  ASSERT_EQ(resumed.trainer().run(), TrainOutcome::kFinished);
  expect_all_equal(straight, resumed);
  expect_same_log(straight_folder.path(), folder.path());
}

TEST(Resume, T1T2T3BitExactInsideALaterEpoch) { expect_bit_exact_resume(resumable()); }

TEST(Resume, WithCheckpointingAndATiedHeadToo) {
  TinyOptions options = resumable();
  options.tied = true;
  options.train.gradient_checkpointing = true;
  expect_bit_exact_resume(options);
}

TEST(Resume, FullTrainingIsBitExact) {
  TinyOptions options = resumable();
  options.full = true;
  options.train.learning_rate = 1e-3;
  expect_bit_exact_resume(options);
}

// The tokens' cross-entropy, which notes the rows that it is asked for.
class RowsSeen final : public BatchLoss {
 public:
  void prepare(PackedBatch& batch) const override {
    rows_.insert(rows_.end(), batch.rows.begin(), batch.rows.end());
  }
  int64_t count(const PackedBatch& batch) const override { return batch.supervised; }
  at::Tensor sum(const Llama& model, const PackedBatch& batch, PackedSequences& sequences,
                 const ForwardOptions& options) override {
    return model.loss(model.forward(batch.ids, sequences, options), batch.labels, {});
  }
  LossMetrics take_metrics(ProcessGroup*) override { return {}; }
  std::vector<int64_t> sorted() const {
    std::vector<int64_t> rows = rows_;
    std::sort(rows.begin(), rows.end());
    return rows;
  }

 private:
  mutable std::vector<int64_t> rows_;
};

TEST(Resume, T4EachRowOnce) {
  RowsSeen seen;
  TinyOptions options = resumable();
  options.loss = &seen;
  options.train.max_steps = 0;
  options.train.num_train_epochs = 1;
  options.train.gradient_accumulation_steps = 2;
  const TempFolder folder;
  stop_at(options, folder.path(), 2);
  const size_t before = seen.sorted().size();
  TinyRun run(options, folder.path());
  const TrainingState state = read_training_state(list_checkpoints(folder.path()).back().path);
  EXPECT_EQ(state.epoch, 0);
  EXPECT_EQ(state.batch_index, 4);
  run.trainer().resume(folder / "checkpoint-2", state);
  ASSERT_EQ(run.trainer().run(), TrainOutcome::kFinished);
  std::vector<int64_t> all(27);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(seen.sorted(), all);
  EXPECT_GT(before, 0u);
  EXPECT_LT(before, all.size());
}

TEST(Resume, T7T8CorruptByteAndHalfFolder) {
  const TempFolder folder;
  TinyOptions options = resumable();
  options.train.save_steps = 4;
  stop_at(options, folder.path(), 8);
  const fs::path file = folder / "checkpoint-8/state.safetensors";
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(-100, std::ios::end);
  const char byte = static_cast<char>(stream.get() ^ 1);
  stream.seekp(-100, std::ios::end);
  stream.put(byte);
  stream.close();
  const auto newest = newest_valid_checkpoint(folder.path());
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step, 4);
  fs::remove(folder / "checkpoint-4" / kManifestName);  // half-written
  error_text_of(ErrorKind::kFormat, [&] { newest_valid_checkpoint(folder.path()); });
}

// What is compared is everything but a list: an option that is new, and forgotten there, is refused
// rather than passed over.
TEST(Resume, T18ConfigChangedOnResume) {
  RunConfig config;
  TrainingState saved;
  saved.config = to_json(bind_options(config));
  saved.identity = {{"data", "1"}, {"model", "2"}, {"tokenizer", "3"}};
  const auto differs = [&](const std::string& section, const std::string& key) {
    TrainingState now = saved;
    (section.empty() ? now.config : now.config[section])[key] = "another";
    return !changed_options(saved, now, {}).empty();
  };
  for (const auto& [section, key] :
       std::vector<std::pair<std::string, std::string>>{{"", "method"},
                                                        {"model", "dtype"},
                                                        {"lora", "rank"},
                                                        {"lora", "alpha"},
                                                        {"lora", "dropout"},
                                                        {"lora", "target_modules"},
                                                        {"lora", "modules_to_save"},
                                                        {"data", "block_size"},
                                                        {"data", "packing"},
                                                        {"data", "shuffle"},
                                                        {"train", "micro_batch_size"},
                                                        {"train", "gradient_accumulation_steps"},
                                                        {"train", "num_train_epochs"},
                                                        {"train", "max_steps"},
                                                        {"train", "learning_rate"},
                                                        {"train", "lr_scheduler_type"},
                                                        {"train", "warmup_ratio"},
                                                        {"train", "weight_decay"},
                                                        {"train", "max_grad_norm"},
                                                        {"train", "loss_reduction"},
                                                        {"train", "seed"},
                                                        {"train", "metric_for_best_model"},
                                                        {"train", "an_option_of_tomorrow"}}) {
    EXPECT_TRUE(differs(section, key)) << section << "." << key;
  }
  for (const auto& [section, key] :
       std::vector<std::pair<std::string, std::string>>{{"", "output_dir"},
                                                        {"", "resume"},
                                                        {"train", "save_steps"},
                                                        {"train", "max_minutes"},
                                                        {"train", "sample_prompts"},
                                                        {"train", "save_in_background"},
                                                        {"distributed", "zero_stage"},
                                                        {"distributed", "offload_optimizer"}}) {
    ASSERT_TRUE((section.empty() ? saved.config : saved.config[section]).contains(key)) << key;
    EXPECT_FALSE(differs(section, key)) << section << "." << key;
  }
  TrainingState other = saved;
  other.identity["data"] = "4";
  EXPECT_EQ(changed_options(saved, other, {}),
            (std::vector<std::string>{"data: \"1\" in the checkpoint, \"4\" now"}));
}

TEST(Resume, DifferencesAreListed) {
  TrainingState saved, now;
  saved.config = {{"method", "lora"},
                  {"output_dir", "a"},
                  {"train", {{"learning_rate", 1e-4}, {"logging_steps", 1}}},
                  {"lora", {{"rank", 8}}}};
  saved.identity = {{"data", "1111"}};
  now = saved;
  now.config["output_dir"] = "b";
  now.config["train"]["logging_steps"] = 5;
  EXPECT_TRUE(changed_options(saved, now, {}).empty());
  now.config["train"]["learning_rate"] = 2e-4;
  now.config["lora"]["rank"] = 16;
  now.identity["data"] = "2222";
  EXPECT_EQ(
      changed_options(saved, now, {}),
      (std::vector<std::string>{"data: \"1111\" in the checkpoint, \"2222\" now",
                                "lora.rank: 8 in the checkpoint, 16 now",
                                "train.learning_rate: 0.0001 in the checkpoint, 0.0002 now"}));
  EXPECT_EQ(changed_options(saved, now, {"data", "train.learning_rate"}).size(), 1u);
  const std::string text = error_text_of(
      ErrorKind::kUsage, [&] { changed_options(saved, now, {"train.learning_rat"}); });
  EXPECT_NE(text.find("did you mean train.learning_rate"), std::string::npos) << text;
}

TEST(Resume, AnotherNumberOfRanksIsNamedWithWhatKeepsTheMathematics) {
  TrainingState saved;
  saved.config = {{"train", {{"gradient_accumulation_steps", 4}}}};
  saved.identity = {{"ranks", 2}};
  TrainingState now = saved;
  now.identity["ranks"] = 4;
  EXPECT_EQ(
      changed_options(saved, now, {}),
      (std::vector<std::string>{
          "train.gradient_accumulation_steps: the number of ranks changed: 4 on 2 ranks in the "
          "checkpoint, 4 on 4 ranks now (micro-batches in a step: 8 and 16); 2 on 4 ranks "
          "keeps the mathematics"}));
  EXPECT_TRUE(changed_options(saved, now, {"train.gradient_accumulation_steps"}).empty());
  now.config["train"]["gradient_accumulation_steps"] = 2;
  EXPECT_TRUE(changed_options(saved, now, {}).empty());
  now.identity.erase("ranks");  // one process alone
  EXPECT_NE(changed_options(saved, now, {})[0].find("8 on 1 rank keeps"), std::string::npos);
  now.identity["ranks"] = 3;
  EXPECT_NE(changed_options(saved, now, {})[0].find("no number on 3 ranks makes 8"),
            std::string::npos);
  now.identity["ranks"] = 2;
  EXPECT_EQ(
      changed_options(saved, now, {}),
      (std::vector<std::string>{"train.gradient_accumulation_steps: 4 in the checkpoint, 2 now"}));
}

TEST(Resume, OtherDataAreListed) {
  TrainingState saved;
  saved.identity = {{"data", "1"}};
  saved.data = {{{"path", ""},
                 {"fingerprint", "1"},
                 {"stores", {{{"files", {{{"path", "a.txt"}, {"bytes", 1}}}}, {"field", "x"}}}}}};
  TrainingState now = saved;
  now.identity["data"] = now.data[0]["fingerprint"] = "2";
  now.data[0]["stores"][0]["files"][0]["path"] = "b.txt";
  now.data[0]["stores"][0]["field"] = "y";
  EXPECT_EQ(changed_options(saved, now, {}),
            (std::vector<std::string>{"data: a.txt was removed", "data: b.txt was added",
                                      "data: data.field: \"x\" in the checkpoint, \"y\" now"}));
  EXPECT_TRUE(changed_options(saved, now, {"data"}).empty());
}

}  // namespace
}  // namespace llama2zh
