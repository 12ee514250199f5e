#include "commands/restart_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/train/checkpoint.h"

namespace llama2zh {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using Words = std::vector<std::string>;

RestartArguments restart_arguments(const Words& args) {
  CommandSpec spec;
  spec.verb = "pretrain";
  spec.config_file = true;
  return {spec, args};
}

// A checkpoint in all that the launcher looks at: the state and a manifest.
void write_checkpoint_of(const std::string& run, const fs::path& output, int64_t step) {
  const fs::path folder = output / ("checkpoint-" + std::to_string(step));
  fs::create_directories(folder);
  Snapshot snapshot;
  snapshot.state.run_id = run;
  snapshot.state.step = step;
  snapshot.state.config = ordered_json::object();
  snapshot.state.identity = ordered_json::object();
  snapshot.write_weights = [](const fs::path&) {};
  snapshot.trainer_state = "{}";
  fs::remove(folder);
  write_checkpoint(output, snapshot);
}

TEST(RestartArguments, AnOptionGoesInAllItsSpellings) {
  RunConfig config;
  const OptionTable options = bind_options(config);
  const Words rest = {"--train.seed", "3", "--model.path", "x"};
  const std::vector<std::pair<std::string, Words>> spellings = {
      {"overwrite", {"--overwrite"}},
      {"overwrite", {"--overwrite", "true"}},
      {"overwrite", {"--overwrite=true"}},
      {"overwrite", {"--no-overwrite"}},
      {"resume_from", {"--resume-from", "out/checkpoint-3"}},
      {"resume_from", {"--resume_from=out/checkpoint-3"}}};
  for (const auto& [key, words] : spellings) {
    for (const size_t place : {0, 2, 4}) {
      Words args = rest;
      args.insert(args.begin() + static_cast<std::ptrdiff_t>(place), words.begin(), words.end());
      EXPECT_THAT(without_option(options, args, key), ElementsAreArray(rest)) << words[0];
    }
  }
  EXPECT_THAT(without_option(options, {"--resume", "--", "--resume"}, "resume"),
              ElementsAre("--", "--resume"));
}

TEST(RestartArguments, TheFirstStartIsTheUsers) {
  const TempFolder folder;
  const Words args = {"--output_dir", (folder / "out").string(), "--overwrite"};
  EXPECT_THAT(restart_arguments(args).at_start(0), ElementsAreArray(args));
}

TEST(RestartArguments, LaterStartsResume) {
  const TempFolder folder;
  const std::string out = (folder / "out").string();
  const auto restarted = restart_arguments({"--output_dir", out}).at_start(1);
  EXPECT_THAT(restarted, ElementsAre("--resume", "--output_dir", out));
  const Words resuming = {"--output_dir", out, "--resume"};
  EXPECT_THAT(restart_arguments(resuming).at_start(2), ElementsAreArray(resuming));
  EXPECT_THAT(restart_arguments({"--resume_from", "a", "--output_dir", out}).at_start(1),
              ElementsAre("--resume", "--resume-from=", "--output_dir", out));
}

TEST(RestartArguments, OverwritingStopsWithTheFirstOwnCheckpoint) {
  const TempFolder folder;
  const fs::path out = folder / "out";
  fs::create_directories(out);
  write_checkpoint_of("old", out, 9);
  const Words args = {"--overwrite", "--output_dir", out.string()};
  const RestartArguments arguments = restart_arguments(args);
  EXPECT_THAT(arguments.at_start(1), ElementsAreArray(args));
  fs::remove_all(out / "checkpoint-9");
  EXPECT_THAT(arguments.at_start(1), ElementsAreArray(args));
  write_checkpoint_of("new", out, 3);
  EXPECT_THAT(arguments.at_start(1),
              ElementsAre("--resume", "--no-overwrite", "--output_dir", out.string()));
  fs::remove(out / "checkpoint-3" / kManifestName);  // half a checkpoint is none
  EXPECT_THAT(arguments.at_start(1), ElementsAreArray(args));
}

TEST(RestartArguments, OptionsOfTheConfigFileAreOverruled) {
  const TempFolder folder;
  const fs::path out = folder / "out";
  fs::create_directories(out);
  const std::string file = (folder / "run.json").string();
  write_file_atomic(file, json{{"output_dir", out.string()}, {"overwrite", true}}.dump());
  const RestartArguments arguments = restart_arguments({"--config", file});
  write_checkpoint_of("new", out, 3);
  const Words args = arguments.at_start(1);
  EXPECT_THAT(args, ElementsAre("--resume", "--no-overwrite", "--config", file));
  EXPECT_FALSE(restart_arguments(args).config().overwrite);
  EXPECT_TRUE(restart_arguments(args).config().resume);
}

TEST(RestartArguments, WhatTheVerbRefusesIsRefused) {
  error_text_of(ErrorKind::kUsage, [] { restart_arguments({"--train.sede", "3"}); });
}

}  // namespace
}  // namespace llama2zh
