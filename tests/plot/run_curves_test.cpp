#include "llama2zh/plot/run_curves.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

using testing::HasSubstr;

const Curve& named(const RunCurves& run, const std::string& name) {
  for (const Curve& curve : run.curves) {
    if (curve.name == name) return curve;
  }
  throw std::out_of_range(name);
}

TEST(RunCurves, OfALogThatIsBeingWritten) {
  const TempFolder folder;
  const fs::path run = folder / "预训练";
  fs::create_directories(run);
  std::ofstream(run / "trainer_log.jsonl")
      << R"({"step": 1, "loss": 3.5, "lr": 0.1, "epoch": 0.5, "total_tokens": 100})"
      << "\n"
      << R"({"step": 2, "loss": null, "lr": 0.2, "epoch": 1.0, "total_tokens": 200})"
      << "\n"
      << R"({"step": 2, "eval_set": "zh", "eval_loss": 3.25, "epoch": 1.0})"
      << "\n"
      << R"({"step": 3, "loss": 2.5, "lr": 0.3, "epoch": 1.5, "total_tokens": 300})"
      << "\n"
      << R"({"step": 4, "lo)";
  const RunCurves loss = read_run_curves(run, "loss", "step");
  EXPECT_EQ(loss.name, "预训练");
  EXPECT_EQ(named(loss, "train").x, (std::vector<double>{1, 3}));  // not the null
  EXPECT_EQ(named(loss, "train").y, (std::vector<double>{3.5, 2.5}));
  EXPECT_TRUE(named(loss, "zh").validation);
  EXPECT_EQ(named(loss, "zh").y, (std::vector<double>{3.25}));
  const RunCurves tokens = read_run_curves(run / "trainer_log.jsonl", "loss", "tokens");
  EXPECT_EQ(tokens.name, "预训练");
  EXPECT_EQ(named(tokens, "train").x, (std::vector<double>{100, 300}));
  EXPECT_EQ(named(tokens, "zh").x, (std::vector<double>{200}));
  EXPECT_EQ(named(read_run_curves(run, "learning_rate", "epoch"), "train").y.size(), 3u);
  EXPECT_TRUE(read_run_curves(run, "mfu", "step").curves.empty());
}

TEST(RunCurves, OfHuggingFacesTrainer) {
  const TempFolder folder;
  std::ofstream(folder / "trainer_state.json") << R"({"global_step": 2, "log_history": [
           {"step": 1, "loss": 3.5, "epoch": 0.5}, {"step": 2, "eval_loss": 3.0, "eval_runtime": 1.5},
           {"step": 2, "eval_zh_loss": 2.0}, {"step": 2, "eval_en_loss": 4.0}]})";
  const RunCurves run = read_run_curves(folder.path(), "loss", "step");
  EXPECT_EQ(run.curves.size(), 4u);
  EXPECT_EQ(named(run, "validation").y, (std::vector<double>{3}));
  EXPECT_EQ(named(run, "zh").y, (std::vector<double>{2}));
  EXPECT_EQ(named(run, "en").y, (std::vector<double>{4}));
}

TEST(RunCurves, FoldersWithoutALogAreRefused) {
  const TempFolder folder;
  EXPECT_THAT(
      error_text_of(ErrorKind::kFormat, [&] { read_run_curves(folder.path(), "loss", "step"); }),
      HasSubstr("neither trainer_log.jsonl nor trainer_state.json"));
  EXPECT_THAT(
      error_text_of(ErrorKind::kIo, [&] { read_run_curves(folder / "missing", "loss", "step"); }),
      HasSubstr("no such run"));
}

// The weighted least-squares line, written out.
double fitted(const std::vector<double>& values, size_t at, double weight) {
  double s0 = 0, s1 = 0, s2 = 0, t0 = 0, t1 = 0;
  for (size_t j = 0; j < values.size(); ++j) {
    const double d = static_cast<double>(j) - static_cast<double>(at);
    const double w = std::pow(weight, std::abs(d));
    s0 += w;
    s1 += w * d;
    s2 += w * d * d;
    t0 += w * values[j];
    t1 += w * d * values[j];
  }
  return (s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1);
}

TEST(Smoothing, IsTheWeightedLine) {
  std::vector<double> values;
  for (int i = 0; i < 60; ++i) values.push_back(std::sin(i * 1.7) + 10.0 / (1 + i));
  const std::vector<double> smooth = smoothed(values, 0.8);
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(smooth[i], fitted(values, i, 0.8), 1e-9) << i;
  }
  EXPECT_EQ(smoothed(values, 0), values);
  std::vector<double> line;
  for (int i = 0; i < 50; ++i) line.push_back(5 - 0.1 * i);
  EXPECT_NEAR(smoothed(line, 0.9)[0], 5, 1e-9);  // no lag, no bend at the ends
  EXPECT_NEAR(smoothed(line, 0.9)[49], 0.1, 1e-9);
}

TEST(Thinning, KeepsTheExtremes) {
  Curve curve{"train", false, {}, {}};
  for (int i = 0; i < 10000; ++i) {
    curve.x.push_back(i);
    curve.y.push_back(i == 7777 ? 100 : i == 1234 ? -100 : std::sin(i));
  }
  const Curve thin = thinned(curve, 100);
  EXPECT_LE(thin.x.size(), 202u);
  EXPECT_GE(thin.x.size(), 150u);
  EXPECT_TRUE(std::is_sorted(thin.x.begin(), thin.x.end()));
  EXPECT_EQ(*std::max_element(thin.y.begin(), thin.y.end()), 100);
  EXPECT_EQ(*std::min_element(thin.y.begin(), thin.y.end()), -100);
}

}  // namespace
}  // namespace llama2zh
