#include "llama2zh/train/step_profiler.h"

#include <gtest/gtest.h>

#include <set>

#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "train/tiny_run.h"

namespace llama2zh {
namespace {

TinyOptions five_steps(bool profile) {
  TinyOptions options;
  options.train = tiny_trainer_config();
  options.train.max_steps = 5;
  options.train.profile = profile;
  options.train.profile_steps = 2;
  return options;
}

// How often each name begins in the trace.
std::map<std::string, int> names_in(const fs::path& trace) {
  std::map<std::string, int> names;
  const json written = read_json_file(trace);
  for (const json& event : written.at("traceEvents")) {
    if (event.value("ph", "") == "X") ++names[event.value("name", "")];
  }
  return names;
}

TEST(StepProfiler, TracesSomeStepsAndChangesNothing) {
  const TempFolder with, without;
  TinyRun traced(five_steps(true), with.path()), plain(five_steps(false), without.path());
  traced.trainer().run();
  plain.trainer().run();
  const auto a = traced.everything(), b = plain.everything();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(bit_equal(a[i].second, b[i].second));
  EXPECT_FALSE(fs::exists(without / "profile"));
  const auto names = names_in(with / "profile/trace.json");
  EXPECT_EQ(names.at("step"), 2);  // steps 3 and 4 of 5
  EXPECT_EQ(names.at("data"), 2);
  EXPECT_EQ(names.at("update"), 2);
  EXPECT_GE(names.at("backward"), 2);
  EXPECT_EQ(names.at("forward"), names.at("backward"));
  EXPECT_GT(names.at("aten::mm"), 10);
  const std::string table = read_file(with / "profile/operators.txt");
  EXPECT_NE(table.find("aten::mm"), std::string::npos) << table;
}

TEST(StepProfiler, AShortRunIsTracedAsFarAsItGoes) {
  const TempFolder folder;
  TinyOptions options = five_steps(true);
  options.train.max_steps = 1;
  TinyRun run(options, folder.path());
  run.trainer().run();
  EXPECT_EQ(names_in(folder / "profile/trace.json").at("step"), 1);
}

TEST(StepProfiler, TableHasTheLongestFirstWithShares) {
  const std::string table =
      operator_table({{"aten::mm", 3, 0.75}, {"aten::add", 10, 0.25}, {"aten::cut", 1, 0}}, 2);
  EXPECT_EQ(table,
            "   share    seconds    calls  operator\n"
            "  75.0 %     0.7500        3  aten::mm\n"
            "  25.0 %     0.2500       10  aten::add\n");
}

}  // namespace
}  // namespace llama2zh
