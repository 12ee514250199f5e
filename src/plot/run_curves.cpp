// Lines of a log are objects; {"step", KEY, "epoch", "total_tokens"} are training lines, those with
// "eval_KEY" (and "eval_set" if it is ours; Hugging Face writes eval_NAME_loss for one of several
// sets) are evaluations. "current_steps" and "lr" are LLaMA-Factory's names.
#include "llama2zh/plot/run_curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

std::optional<double> number_at(const json& line, const std::string& key) {
  const auto it = line.find(key);
  if (it == line.end() || !it->is_number()) return std::nullopt;
  const double value = it->get<double>();
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::optional<double> first_number(const json& line, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    if (const auto value = number_at(line, key)) return value;
  }
  return std::nullopt;
}

std::vector<json> log_lines(const fs::path& file) {
  if (file.extension() == ".json") {
    const json state = read_json_file(file);
    if (!state.contains("log_history")) {
      fail_format(file.string(), "has no log_history, expected a Trainer's state");
    }
    return state["log_history"].get<std::vector<json>>();
  }
  std::vector<json> lines;
  for (const std::string& text : split(read_file(file), '\n')) {
    json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (line.is_object()) lines.push_back(std::move(line));
  }
  return lines;
}

fs::path log_file(const fs::path& run) {
  if (fs::is_regular_file(run)) return run;
  for (const char* name : {"trainer_log.jsonl", "trainer_state.json"}) {
    if (fs::is_regular_file(run / name)) return run / name;
  }
  if (!fs::exists(run)) fail_io(run.string(), "there is no such run", ENOENT);
  fail_format(run.string(), "holds neither trainer_log.jsonl nor trainer_state.json",
              "name the output_dir of a run");
}

// "train" for a line's own key; "zh" for eval_zh_loss, or what eval_set says; none: not a point.
struct Point {
  std::string name;
  bool validation = false;
  double y = 0;
};

std::vector<Point> points_of(const json& line, const std::string& key) {
  std::vector<Point> points;
  const std::vector<std::string> own =
      key == "learning_rate" ? std::vector<std::string>{key, "lr"} : std::vector<std::string>{key};
  if (const auto y = first_number(line, own)) points.push_back({"train", false, *y});
  const std::string wanted = "eval_" + key;
  if (const auto y = number_at(line, wanted)) {
    points.push_back({line.value("eval_set", std::string("validation")), true, *y});
  }
  const std::string ending = "_" + key;
  for (const auto& [name, value] : line.items()) {
    if (name == wanted || !name.starts_with("eval_") || !name.ends_with(ending)) continue;
    if (!value.is_number() || name.size() <= 5 + ending.size()) continue;
    points.push_back({name.substr(5, name.size() - 5 - ending.size()), true, value.get<double>()});
  }
  return points;
}

Curve& curve_named(RunCurves& run, const Point& point) {
  for (Curve& curve : run.curves) {
    if (curve.name == point.name && curve.validation == point.validation) return curve;
  }
  return run.curves.emplace_back(Curve{point.name, point.validation, {}, {}});
}

std::string run_name(const fs::path& run) {
  fs::path folder = fs::is_regular_file(run) ? run.parent_path() : run;
  folder = fs::absolute(folder).lexically_normal();
  return folder.has_filename() ? folder.filename().string()
                               : folder.parent_path().filename().string();
}

}  // namespace

RunCurves read_run_curves(const fs::path& run, const std::string& key, const std::string& x) {
  const fs::path file = log_file(run);
  RunCurves result{run_name(run), {}};
  double last_tokens = 0;
  for (const json& line : log_lines(file)) {
    last_tokens = number_at(line, "total_tokens").value_or(last_tokens);
    const auto at = x == "tokens"  ? std::optional(last_tokens)
                    : x == "epoch" ? number_at(line, "epoch")
                                   : first_number(line, {"step", "current_steps"});
    if (!at) continue;
    for (const Point& point : points_of(line, key)) {
      Curve& curve = curve_named(result, point);
      if (!curve.x.empty() && *at < curve.x.back()) continue;  // two runs in one file
      curve.x.push_back(*at);
      curve.y.push_back(point.y);
    }
  }
  return result;
}

double automatic_smoothing(size_t points) {
  return points < 25 ? 0 : std::min(0.99, 1 - 25.0 / static_cast<double>(points));
}

namespace {

// Sums over the points on one side of place i, at distance d: of w^d, d w^d, d^2 w^d, y w^d and
// d y w^d. step() moves one place on, add() takes that place's value in.
struct SideSums {
  double w = 0, wd = 0, wdd = 0, wy = 0, wdy = 0;
  void step(double weight) {
    wdd = weight * (wdd + 2 * wd + w);
    wd = weight * (wd + w);
    w *= weight;
    wdy = weight * (wdy + wy);
    wy *= weight;
  }
  void add(double y) {
    w += 1;
    wy += y;
  }
};

}  // namespace

// The line through all points that minimises the weighted squares has at place i the height
// (S2 T0 - S1 T1) / (S0 S2 - S1^2), where Sk sums w d^k and Tk sums w d^k y with signed distances.
std::vector<double> smoothed(const std::vector<double>& values, double weight) {
  if (values.size() < 3 || weight <= 0) return values;
  std::vector<SideSums> before(values.size());
  SideSums side;
  for (size_t i = 0; i < values.size(); ++i) {
    side.step(weight);
    side.add(values[i]);
    before[i] = side;
  }
  std::vector<double> result(values.size());
  SideSums after;
  for (size_t i = values.size(); i-- > 0;) {
    after.step(weight);
    const SideSums& left = before[i];
    const double s0 = left.w + after.w, s1 = after.wd - left.wd, s2 = after.wdd + left.wdd;
    const double t0 = left.wy + after.wy, t1 = after.wdy - left.wdy;
    result[i] = (s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1);
    after.add(values[i]);
  }
  return result;
}

Curve thinned(const Curve& curve, size_t buckets) {
  if (curve.x.size() <= 2 * buckets) return curve;
  Curve result{curve.name, curve.validation, {}, {}};
  const double low = curve.x.front();
  const double width = (curve.x.back() - low) / static_cast<double>(buckets);
  const auto add = [&](size_t i) {
    result.x.push_back(curve.x[i]);
    result.y.push_back(curve.y[i]);
  };
  for (size_t begin = 0; begin < curve.x.size();) {
    const double edge = low + width * (std::floor((curve.x[begin] - low) / width) + 1);
    size_t end = begin, lowest = begin, highest = begin;
    for (; end < curve.x.size() && (end == begin || curve.x[end] < edge); ++end) {
      if (curve.y[end] < curve.y[lowest]) lowest = end;
      if (curve.y[end] > curve.y[highest]) highest = end;
    }
    add(std::min(lowest, highest));
    if (lowest != highest) add(std::max(lowest, highest));
    begin = end;
  }
  return result;
}

}  // namespace llama2zh
