// Whole runs, from files to files: what is left in the output folder, continuing, resuming,
// refusals.
#include "llama2zh/train/recipe.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>

#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/model/load.h"
#include "train/recipe_run.h"

namespace llama2zh {
namespace {

TEST_F(Recipe, PretrainLeavesAnAdapterFolder) {
  RunConfig run = config("out");
  run.data.validation_split = 0.2;
  run.train.eval_steps = 2;
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  const fs::path out = run.output_dir;
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "tokenizer.model",
                           "trainer_log.jsonl", "run_config.json", kManifestName}) {
    EXPECT_TRUE(fs::exists(out / name)) << name;
  }
  verify_manifest(out, /*deep=*/true);
  const Manifest manifest = read_manifest(out);
  EXPECT_EQ(manifest.kind, "adapter");
  EXPECT_EQ(manifest.vocab_size, 265);
  EXPECT_EQ(manifest.base_identity, model_identity(open_model(base())));
  EXPECT_FALSE(manifest.tokenizer_sha256.empty());
  const PeftAdapter adapter = read_peft_adapter(out);
  EXPECT_EQ(adapter.lora.size(), 14u);
  EXPECT_EQ(adapter.full.size(), 2u);
  const json resolved = read_json_file(out / "run_config.json");
  EXPECT_EQ(resolved["model"]["dtype"], "float32");
  EXPECT_EQ(resolved["train"]["adam_beta2"], 0.999);
  int evaluations = 0;
  for (const json& line : read_log(out)) evaluations += line.contains("eval_loss") ? 1 : 0;
  EXPECT_EQ(evaluations, 2);
}

TEST_F(Recipe, SftContinuesAnAdapterAndStoresTheTemplate) {
  RunConfig first = config("first");
  first.train.save_dtype = "float32";
  run_training(first, RowKind::kPretrain);
  RunConfig run = config("second");
  run.model.peft_path = first.output_dir;
  run.lora.rank = 7;  // the adapter's 2 counts
  run.data.train_files = {(folder_ / "dialogues.json").string()};
  run.data.chat_template = "plain";
  run.data.block_size = 64;
  run.train.learning_rate = 0;
  EXPECT_EQ(run_training(run, RowKind::kSft), TrainOutcome::kFinished);
  const PeftAdapter before = read_peft_adapter(first.output_dir);
  const PeftAdapter after = read_peft_adapter(run.output_dir);
  EXPECT_EQ(after.config.rank, 2);
  for (const auto& [name, pair] : before.lora) {
    EXPECT_TRUE(bit_equal(pair.a, after.lora.at(name).a)) << name;
    EXPECT_TRUE(bit_equal(pair.b, after.lora.at(name).b)) << name;
  }
  for (const auto& [name, tensor] : before.full) {
    EXPECT_TRUE(bit_equal(tensor, after.full.at(name))) << name;
  }
  EXPECT_EQ(Tokenizer::load(run.output_dir).template_name(), "plain");
}

// What our own lora section can't say has to come through: ranks and alphas of single modules.
TEST_F(Recipe, ContinuesPeftsPatternsAndResumesThem) {
  const RunConfig first = config("first");
  run_training(first, RowKind::kPretrain);
  PeftAdapter adapter = read_peft_adapter(first.output_dir);
  const std::string special = "model.layers.0.self_attn.q_proj";
  LoraPair& pair = adapter.lora.at(special);
  pair = {pair.a.narrow(0, 0, 1).clone(), pair.b.narrow(1, 0, 1).clone(), /*scaling=*/5};
  adapter.config.rank_pattern = {{"layers.0.self_attn.q_proj", 1}};
  adapter.config.alpha_pattern = {{"layers.0.self_attn.q_proj", 5}};
  fs::create_directories(*this / "patterns");
  write_peft_adapter(*this / "patterns", adapter, true);

  RunConfig run = config("second");
  run.model.peft_path = *this / "patterns";
  run.train.save_steps = 2;
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  const PeftAdapter after = read_peft_adapter(run.output_dir);
  EXPECT_EQ(after.config.rank_pattern, adapter.config.rank_pattern);
  EXPECT_EQ(after.config.alpha_pattern, adapter.config.alpha_pattern);
  EXPECT_EQ(after.lora.at(special).a.size(0), 1);
  EXPECT_DOUBLE_EQ(after.lora.at(special).scaling, 5);
  EXPECT_FALSE(bit_equal(after.lora.at(special).a, adapter.lora.at(special).a));

  RunConfig stopped = config("third");
  stopped.model.peft_path = *this / "patterns";
  stopped.train.save_steps = 2;
  run_training(stopped, RowKind::kPretrain);
  fs::remove_all(fs::path(stopped.output_dir) / "checkpoint-4");
  stopped.resume = true;
  EXPECT_EQ(run_training(stopped, RowKind::kPretrain), TrainOutcome::kFinished);
  const PeftAdapter resumed = read_peft_adapter(stopped.output_dir);
  EXPECT_TRUE(bit_equal(resumed.lora.at(special).a, after.lora.at(special).a));
}

TEST_F(Recipe, FullMethodLeavesAModelFolder) {
  RunConfig run = config("full");
  run.method = "full";
  run.model.dtype = "bfloat16";
  run.train.learning_rate = 0;
  run.train.save_steps = 4;
  // While other ranks write their parts, nothing reads the folder: there is no manifest yet.
  const fs::path unfinished = fs::path(run.output_dir) / cat("checkpoint-4", StagedFolder::kSuffix);
  int64_t weights_written = 0;
  set_checkpoint_hook([&](std::string_view point) {
    if (point != "weights") return;
    ++weights_written;
    EXPECT_TRUE(fs::exists(unfinished / "model.safetensors"));
    EXPECT_FALSE(has_manifest(unfinished));
  });
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  set_checkpoint_hook({});
  EXPECT_EQ(weights_written, 1);
  EXPECT_EQ(read_manifest(run.output_dir).kind, "model");
  // Masters come from the stored float32, not from the arithmetic's bfloat16.
  const OpenModel before = open_model(base()), after = open_model(run.output_dir);
  for (const TensorInfo& info : before.source->tensors()) {
    EXPECT_TRUE(bit_equal(before.source->load(info.name), after.source->load(info.name)))
        << info.name;
  }
}

TEST_F(Recipe, StopAndResumeGiveTheSameAdapter) {
  RunConfig straight = config("straight");
  straight.lora.dropout = 0.1;
  run_training(straight, RowKind::kPretrain);
  RunConfig run = straight;
  run.output_dir = folder_ / "resumed";
  run.train.stop_at_step = 3;
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kStopped);
  EXPECT_FALSE(fs::exists(*this / "resumed/adapter_config.json"));
  EXPECT_TRUE(is_peft_folder(*this / "resumed/checkpoint-3"));
  run.train.stop_at_step = 0;
  run.resume = true;
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  EXPECT_EQ(read_file(fs::path(straight.output_dir) / "adapter_model.safetensors"),
            read_file(*this / "resumed/adapter_model.safetensors"));
}

TEST_F(Recipe, T8NamedCheckpointHasToBeWholeAndTheNewest) {
  RunConfig run = config("out");
  run.train.save_steps = 1;
  run.train.stop_at_step = 2;
  run_training(run, RowKind::kPretrain);
  run.train.stop_at_step = 0;
  run.resume_from = *this / "out/checkpoint-7";
  EXPECT_NE(refusal(run).find("checkpoint-7"), std::string::npos);
  run.resume_from = *this / "out/checkpoint-1";
  EXPECT_NE(refusal(run).find("newer"), std::string::npos);
  fs::remove(*this / "out/checkpoint-2" / kManifestName);  // half-written: may be overtaken
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  verify_manifest(*this / "out/checkpoint-2", /*deep=*/true);
}

TEST_F(Recipe, ResumeRefusesChangedOptionsAndData) {
  RunConfig run = config("out");
  run.train.stop_at_step = 2;
  run_training(run, RowKind::kPretrain);
  run.resume = true;
  run.train.stop_at_step = 0;
  run.train.learning_rate = 2e-2;
  std::ofstream(folder_ / "corpus.jsonl", std::ios::app) << "{\"text\": \"a\"}\n";
  std::string text = refusal(run);
  EXPECT_NE(text.find("train.learning_rate: 0.01 in the checkpoint, 0.02 now"), std::string::npos)
      << text;
  EXPECT_NE(text.find("data: "), std::string::npos) << text;
  run.allow_changed = {"train.learning_rate"};
  text = refusal(run);
  EXPECT_EQ(text.find("learning_rate: "), std::string::npos) << text;
  run.allow_changed = {"train.learning_rate", "data"};
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
}

TEST_F(Recipe, T11OutputFolderWithAnotherRunIsRefusedAndKept) {
  const RunConfig run = config("out");
  fs::create_directories(*this / "out/checkpoint-1000");
  write_file_atomic(*this / "out/checkpoint-1000/trainer_state.json", "{}");
  write_file_atomic(*this / "out/notes.txt", "mine");
  const std::string text = refusal(run);
  EXPECT_NE(text.find("not empty"), std::string::npos) << text;
  EXPECT_NE(text.find("--overwrite"), std::string::npos) << text;
  EXPECT_TRUE(fs::exists(*this / "out/checkpoint-1000/trainer_state.json"));
  RunConfig replace = run;
  replace.overwrite = true;
  EXPECT_EQ(run_training(replace, RowKind::kPretrain), TrainOutcome::kFinished);
  EXPECT_FALSE(fs::exists(*this / "out/checkpoint-1000"));
  EXPECT_TRUE(fs::exists(*this / "out/notes.txt"));
}

TEST_F(Recipe, OneProcessAFolderAndNoRemains) {
  RunConfig run = config("out");
  run.train.stop_at_step = 1;
  run_training(run, RowKind::kPretrain);
  fs::create_directories(*this / cat("out/checkpoint-3", StagedFolder::kSuffix));
  fs::create_directories(*this / cat("out/mine", StagedFolder::kSuffix));
  run.train.stop_at_step = 0;
  run.resume = true;
  {
    const FolderLock other(run.output_dir);
    const std::string text = refusal(run, ErrorKind::kIo);
    EXPECT_NE(text.find("another process"), std::string::npos) << text;
  }
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  EXPECT_FALSE(fs::exists(*this / cat("out/checkpoint-3", StagedFolder::kSuffix)));
  EXPECT_TRUE(fs::exists(*this / cat("out/mine", StagedFolder::kSuffix)));
}

TEST_F(Recipe, SamplesAreWrittenAndGoOnAfterAStop) {
  RunConfig run = config("out");
  run.train.sample_prompts = {"ab", "ba"};
  run.train.sample_steps = 1;
  run.train.stop_at_step = 2;
  const auto count_tokens = [](const Llama&, const Tokenizer&, const SampleRequest& request) {
    return cat(request.prompt.size(), " tokens");
  };
  EXPECT_NE(refusal(run).find("sample_prompts"), std::string::npos);  // nobody to generate
  run_training(run, RowKind::kPretrain, count_tokens);
  run.train.stop_at_step = 0;
  run.resume = true;
  run_training(run, RowKind::kPretrain, count_tokens);
  std::vector<json> lines;
  for (const std::string& line : split(read_file(*this / "out/samples.jsonl"), '\n')) {
    if (!line.empty()) lines.push_back(json::parse(line));
  }
  ASSERT_EQ(lines.size(), 8u);
  EXPECT_EQ(lines[7], (json{{"step", 4}, {"prompt", "ba"}, {"text", lines[1]["text"]}}));
  run.train.sample_prompts = {std::string(200, 'a')};
  const std::string text = error_text_of(
      ErrorKind::kUsage, [&] { run_training(run, RowKind::kPretrain, count_tokens); });
  EXPECT_NE(text.find("room"), std::string::npos) << text;
}

// Dynamic scaling makes room beyond config.json's 64 positions.
TEST_F(Recipe, SamplesMayBeAsLongAsTheScaledContext) {
  RunConfig run = config("out");
  run.train.sample_prompts = {std::string(100, 'a')};
  run.train.sample_steps = 4;
  const auto count_tokens = [](const Llama&, const Tokenizer&, const SampleRequest& request) {
    return cat(request.prompt.size(), " tokens");
  };
  const std::string text = error_text_of(
      ErrorKind::kUsage, [&] { run_training(run, RowKind::kPretrain, count_tokens); });
  EXPECT_NE(text.find("no room in the model's 64 positions"), std::string::npos) << text;
  run.model.rope_scaling.rope_type = "dynamic";
  run.model.rope_scaling.factor = 2;
  EXPECT_EQ(run_training(run, RowKind::kPretrain, count_tokens), TrainOutcome::kFinished);
}

TEST_F(Recipe, RefusalsLeaveNothingBehind) {
  RunConfig run = config("out");
  run.model.path = *this / "nowhere";
  error_text_of(ErrorKind::kIo, [&] { run_training(run, RowKind::kPretrain); });
  run = config("out");
  run.output_dir = base();
  run.overwrite = true;
  EXPECT_NE(refusal(run).find("model.path"), std::string::npos);
  EXPECT_TRUE(fs::exists(base() / "model.safetensors"));
  run = config("out");
  run.output_dir.clear();
  EXPECT_NE(refusal(run).find("output_dir"), std::string::npos);
  run = config("out");
  run.resume = run.overwrite = true;
  refusal(run);
  run = config("out");
  run.method = "full";
  run.model.peft_path = base();
  EXPECT_NE(refusal(run).find("peft_path"), std::string::npos);
  run = config("out");
  run.lora.target_modules = {"q_prj"};
  EXPECT_NE(refusal(run).find("q_proj"), std::string::npos);
  EXPECT_FALSE(fs::exists(*this / "out"));
}

TEST_F(Recipe, VocabulariesThatDoNotMeetAreNamedSideBySide) {
  const Tokenizer tokenizer = Tokenizer::load(base());
  make_base(*this / "smaller", tokenizer, 260);
  RunConfig run = config("out");
  run.model.path = *this / "smaller";
  const std::string text = refusal(run, ErrorKind::kFormat);
  EXPECT_NE(text.find("265"), std::string::npos) << text;
  EXPECT_NE(text.find("260"), std::string::npos) << text;
}

TEST_F(Recipe, PlanOnlyLoadsAndWritesNothing) {
  RunConfig run = config("out");
  run.plan_only = true;
  EXPECT_EQ(run_training(run, RowKind::kPretrain), TrainOutcome::kFinished);
  EXPECT_FALSE(fs::exists(run.output_dir));
}

TEST_F(Recipe, PlannedParametersAreThoseThatTrain) {
  const OpenModel open = open_model(base());
  for (const char* method : {"lora", "full"}) {
    RunConfig run = config("out");
    run.method = method;
    const auto model = load_model(open, at::kFloat, at::kCPU);
    if (run.method == "full") {
      train_all_parameters(*model);
    } else {
      inject_lora(*model, run.lora, 1);
    }
    int64_t count = 0;
    for (const NamedParameter& parameter : trained_parameters(*model)) {
      count += parameter.tensor.numel();
    }
    EXPECT_EQ(trainable_parameters(open.config, run), count) << method;
  }
}

}  // namespace
}  // namespace llama2zh
