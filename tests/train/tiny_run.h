#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/data/loader.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/train/trainer.h"

namespace llama2zh {

// A model of a few thousand weights with LoRA on it, and rows of random ids.
struct TinyOptions {
  int64_t rows = 21;
  double dropout = 0;
  bool packing = true;
  bool full = false;
  bool tied = false;
  bool wide = false;     // a hidden size of 128: matrices that 8-bit moments are used for
  LoraConfig lora = {};  // its rank and dropout are set by the run
  TrainScope scope = {};
  int64_t micro_batch_size = 1;
  int64_t held_out_rows = 0;  // of a validation set "held_out"; 0: none
  std::function<void(int64_t step)> before_step = {};
  StopRequest::Clock::time_point started = StopRequest::Clock::now();
  int64_t vocab_size = 48;  // rows use the first 48 ids
  ProcessGroup* group = nullptr;
  BatchLoss* loss = nullptr;
  Sharding sharding = {};
  TrainerConfig train = {};
};

TrainerConfig tiny_trainer_config();

// Everything that a Trainer needs, the same for the same options.
class TinyRun {
 public:
  TinyRun(const TinyOptions& options, const std::filesystem::path& output_dir);
  Llama& model() { return *model_; }
  const BatchLoader& loader() const { return loader_; }
  Trainer& trainer() { return *trainer_; }
  // Values of all trained parameters and of the optimizer's moments, by name.
  std::vector<std::pair<std::string, at::Tensor>> everything();

 private:
  TokenRows rows_, held_out_;
  BatchLoader loader_;
  LoraConfig lora_;
  std::unique_ptr<Llama> model_;
  std::unique_ptr<Trainer> trainer_;
};

LlamaConfig tiny_model_config();
TokenRows random_rows(int64_t count, int64_t vocab_size, int64_t longest);
bool bit_equal(const at::Tensor& a, const at::Tensor& b);
// Objects of a trainer_log.jsonl.
std::vector<json> read_log(const std::filesystem::path& output_dir);

}  // namespace llama2zh
