#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace llama2zh {

// Numbers along a run; x ascends. Values that are not finite are left out.
struct Curve {
  std::string name;         // "train", or that of the validation set
  bool validation = false;  // a point an evaluation, drawn with markers and not smoothed
  std::vector<double> x, y;
};

// What of a run is drawn: one quantity of its log.
struct RunCurves {
  std::string name;  // the run's folder
  std::vector<Curve> curves;
};

// The log of a run, finished or not: a folder with trainer_log.jsonl (ours and LLaMA-Factory's) or
// Hugging Face's trainer_state.json, or one of these files. kIo or kFormat if there is none. A last
// line that is being written is left out.
//
// `key` is a key of the log's lines (loss, learning_rate, grad_norm, tokens_per_second, ...); the
// validation sets' "eval_KEY" come along. `x` is step, epoch or tokens (an evaluation stands where the
// last training line stood). No curve if the log does not have the key.
RunCurves read_run_curves(const std::filesystem::path& run, const std::string& key,
                          const std::string& x);

// At each place i the height of the line fitted to all values, of which value j counts
// weight^|i - j| (weight in [0, 1)). Unlike TensorBoard's moving average it does not lag behind a
// falling loss, nor does it bend at the ends.
std::vector<double> smoothed(const std::vector<double>& values, double weight);
// A weight that averages over some 8 % of the curve; 0 for less than 25 points.
double automatic_smoothing(size_t points);

// A shorter curve that looks the same: of each of at most `buckets` equal parts of the x range the
// lowest and the highest point.
Curve thinned(const Curve& curve, size_t buckets);

}  // namespace llama2zh
