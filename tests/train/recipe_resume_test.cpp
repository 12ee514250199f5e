// Whole runs that are stopped and gone on with: a mixture, T7 and T8 of the reliability notes through
// --resume, T14 while the data are prepared, a quantized base.
#include <gmock/gmock.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/model/quantize.h"
#include "train/recipe_run.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;

class RecipeResume : public Recipe {
 protected:
  static std::string adapter_bytes(const RunConfig& run) {
    return read_file(fs::path(run.output_dir) / "adapter_model.safetensors");
  }
  // The run as it is, and another that is stopped at `step` and goes on: the same adapter.
  void expect_bit_exact_resume(RunConfig straight, int64_t step) const {
    ASSERT_EQ(run_training(straight, RowKind::kPretrain), TrainOutcome::kFinished);
    RunConfig run = straight;
    run.output_dir = *this / "stopped";
    run.train.stop_at_step = step;
    ASSERT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kStopped);
    run.train.stop_at_step = 0;
    run.resume = true;
    ASSERT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
    EXPECT_TRUE(adapter_bytes(run) == adapter_bytes(straight));
  }
};

TEST_F(RecipeResume, AMixtureIsBitExactInsideALaterEpoch) {
  write_file_atomic(*this / "english.jsonl",
                    "{\"text\": \"bb aa bb\"}\n{\"text\": \"aaaa bbbb aa\"}\n");
  RunConfig run = config("straight");
  run.data.train_files = {};
  run.data.mixture = {{(*this / "corpus.jsonl").string(), 3.0, {}, {}},
                      {(*this / "english.jsonl").string(), 1.0, {}, {}}};
  run.lora.dropout = 0.1;
  run.train.max_steps = 12;
  expect_bit_exact_resume(run, 7);
  const TrainingState state = read_training_state(*this / "stopped/checkpoint-7");
  EXPECT_GE(state.epoch, 1);
  EXPECT_GT(state.batch_index, 0);
  EXPECT_EQ(state.data.size(), 2u);
}

// The newest is half-written, the one before has a byte that changed: two warnings, and on from the
// third; what is named explicitly has to be whole.
TEST_F(RecipeResume, T7T8FallsBackWithWarnings) {
  RunConfig run = config("out");
  run.train.save_steps = 1;
  ASSERT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  const std::string whole = adapter_bytes(run);
  const fs::path out = run.output_dir;
  fs::remove(out / "checkpoint-4" / kManifestName);
  std::string bytes = read_file(out / "checkpoint-3/state.safetensors");
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 1);
  write_file_atomic(out / "checkpoint-3/state.safetensors", bytes);
  run.resume_from = out / "checkpoint-4";
  EXPECT_THAT(refusal(run, ErrorKind::kFormat), HasSubstr("not a complete checkpoint"));
  run.resume_from = out / "checkpoint-3";
  EXPECT_THAT(refusal(run, ErrorKind::kFormat), HasSubstr("state.safetensors"));
  run.resume_from.clear();
  run.resume = true;
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(
      log, ::testing::ContainsRegex("warning: checkpoint not used: .*checkpoint-4.*not complete"));
  EXPECT_THAT(log, ::testing::ContainsRegex("warning: checkpoint not used: .*checkpoint-3"));
  EXPECT_THAT(log, ::testing::ContainsRegex("resuming at step 2 from .*checkpoint-2"));
  EXPECT_EQ(adapter_bytes(run), whole);
}

// Text that takes a while to tokenise.
void write_long_corpus(const fs::path& file) {
  std::string rows;
  for (int i = 0; i < 400; ++i) {
    rows += R"({"text": ")";
    for (int word = 0; word < 4000; ++word) rows += "ab ba ";
    rows += "\"}\n";
  }
  write_file_atomic(file, rows);
}

std::vector<fs::path> unfinished_stores(const fs::path& cache) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cache, error)) {
    if (entry.path().string().ends_with(StagedFolder::kSuffix)) found.push_back(entry.path());
  }
  return found;
}

// Whether some of the tokens are done.
bool holds_tokens(const fs::path& cache) {
  for (const fs::path& store : unfinished_stores(cache)) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(store, error))
      if (entry.path().extension() == ".ids" && entry.file_size(error) > 0) return true;
  }
  return false;
}

// A signal while files are tokenised: nothing was trained, so nothing is left but the part of the
// tokens that is done, from which the same command goes on.
TEST_F(RecipeResume, T14SigtermWhileDataArePrepared) {
  RunConfig run = config("out");
  write_long_corpus(*this / "long.jsonl");
  run.data.train_files = {(*this / "long.jsonl").string()};
  run.data.threads = 1;
  install_stop_signals();
  std::atomic<bool> ended = false;
  std::thread killer([&] {
    while (!ended && !holds_tokens(run.data.cache_dir))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ::kill(::getpid(), SIGTERM);
  });
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kStopped);
  ended = true;
  killer.join();
  EXPECT_FALSE(fs::exists(run.output_dir));
  ASSERT_EQ(unfinished_stores(run.data.cache_dir).size(), 1u);
  EXPECT_TRUE(fs::exists(unfinished_stores(run.data.cache_dir)[0] / "prepare_state.json"));
  clear_stop();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("going on with the unfinished"));
}

TEST_F(RecipeResume, TheTimeLimitHoldsWhileDataArePrepared) {
  RunConfig run = config("out");
  write_long_corpus(*this / "long.jsonl");
  run.data.train_files = {(*this / "long.jsonl").string()};
  run.train.max_minutes = 1e-4;
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kStopped);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("stopped while the data were prepared: train.max_minutes"));
  EXPECT_FALSE(fs::exists(run.output_dir));
}

// QLoRA: the base is a folder of int4 codes, which stay as they are.
TEST_F(RecipeResume, AnAdapterOverAQuantizedBase) {
  const OpenModel source = open_model(base());
  const fs::path quantized = *this / "int4";
  fs::create_directories(quantized);
  quantize_model(source, quantized, {.quantization = {.bits = 4}, .compute_dtype = at::kFloat});
  const Tokenizer tokenizer = Tokenizer::load(base());
  tokenizer.save(quantized, tokenizer.template_name());
  const std::string codes = read_file(quantized / "model.safetensors");

  RunConfig run = config("straight");
  run.model.path = quantized;
  run.lora.modules_to_save = {};
  run.lora.dropout = 0.1;
  run.train.max_steps = 12;
  run.train.learning_rate = 5e-2;
  expect_bit_exact_resume(run, 7);
  EXPECT_TRUE(read_file(quantized / "model.safetensors") == codes);
  const auto log = read_log(run.output_dir);
  EXPECT_LT(log.back()["loss"].get<double>(), 0.9 * log.front()["loss"].get<double>());
  EXPECT_EQ(read_manifest(run.output_dir).base_identity, model_identity(open_model(quantized)));
  const PeftAdapter adapter = read_peft_adapter(run.output_dir);
  EXPECT_EQ(adapter.lora.size(), 14u);
  EXPECT_TRUE(adapter.full.empty());
  EXPECT_GT(adapter.lora.begin()->second.b.abs().max().item<double>(), 0);
  const auto model = load_model(open_model(quantized), at::kFloat, at::kCPU);
  apply_adapter(*model, adapter, /*train=*/false);

  run.output_dir = *this / "full";
  run.method = "full";
  EXPECT_THAT(refusal(run), HasSubstr("not quantized"));
}

}  // namespace
}  // namespace llama2zh
