#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"
#include "llama2zh/data/data_config.h"
#include "llama2zh/distributed/distributed_config.h"
#include "llama2zh/model/load.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/train/guard_config.h"
#include "llama2zh/train/method_config.h"
#include "llama2zh/train/preference_config.h"
#include "llama2zh/train/rope_scaling_config.h"

namespace llama2zh {

// Which model is trained, and in which numbers; the "model" section.
struct ModelConfig {
  std::string path;
  std::string tokenizer;
  std::string dtype = "auto";
  std::string device = "auto";
  std::string peft_path;
  RopeScalingConfig rope_scaling;
  bool allow_other_base = false;
  static auto options() {
    return std::tuple(
        option("path", &ModelConfig::path, "Folder of the model to start from."),
        option("tokenizer", &ModelConfig::tokenizer,
               "Tokenizer: a folder, a .model or .gguf file; empty: the model's."),
        option("dtype", &ModelConfig::dtype,
               "Type of the arithmetic; frozen weights stay in their own type on a CPU; what "
               "trains has float32 masters. "
               "auto: as stored (on a CPU bfloat16 for float16, and float32 for either if it lacks "
               "AVX-512). float16 needs CUDA and uses dynamic loss scaling.",
               one_of({"auto", "float32", "bfloat16", "float16"})),
        option("device", &ModelConfig::device, "Where to compute; auto: cuda if it is there.",
               device_names()),
        option("peft_path", &ModelConfig::peft_path,
               "Adapter folder (ours or PEFT's) to continue from: it decides rank, alpha, "
               "target_modules and modules_to_save; lora.dropout stays the config's."),
        option("rope_scaling", &ModelConfig::rope_scaling, "Positions beyond the model's own."),
        option("allow_other_base", &ModelConfig::allow_other_base,
               "Continue peft_path although its manifest names another base than path."));
  }
};

// Optimizer, schedule, saving and logging; the "train" section. Names are Hugging Face's.
struct TrainerConfig : MethodConfig, GuardConfig {
  int64_t micro_batch_size = 2;
  int64_t gradient_accumulation_steps = 1;
  double num_train_epochs = 1;
  int64_t max_steps = 0;
  int64_t stop_at_step = 0;
  double max_minutes = 0;
  double learning_rate = 1e-4;
  std::string lr_scheduler_type = "cosine";
  int64_t warmup_steps = 0;
  double warmup_ratio = 0;
  double min_lr_ratio = 0;
  double weight_decay = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1;
  int64_t max_nonfinite_steps = 1;
  std::string loss_reduction = "token";
  bool gradient_checkpointing = false;
  int64_t head_chunk_rows = 1024;
  int64_t logging_steps = 1;
  std::string report_to = "tensorboard";
  double peak_tflops = 0;
  bool profile = false;
  int64_t profile_steps = 3;
  int64_t eval_steps = 0;
  std::string metric_for_best_model = "eval_loss";
  bool load_best_model_at_end = false;
  int64_t early_stopping_patience = 0;
  double early_stopping_threshold = 0;
  std::vector<std::string> sample_prompts;
  int64_t sample_steps = 0;
  int64_t sample_max_new_tokens = 64;
  int64_t save_steps = 0;
  int64_t save_total_limit = 0;
  bool save_in_background = true;
  std::string save_dtype = "auto";
  bool merge_final = false;
  int64_t seed = 100;
  static auto options() {
    const auto own = std::tuple(
        option("micro_batch_size", &TrainerConfig::micro_batch_size,
               "Blocks that go through the model at once.", between(1, 65536)),
        option("gradient_accumulation_steps", &TrainerConfig::gradient_accumulation_steps,
               "Micro-batches whose gradients make one optimizer step.", between(1, 1048576)),
        option("num_train_epochs", &TrainerConfig::num_train_epochs,
               "Passes over the training rows; may be a fraction. Counts when max_steps is 0.",
               greater_than(0)),
        option("max_steps", &TrainerConfig::max_steps,
               "Optimizer steps of the whole run; 0: num_train_epochs decides.", at_least(0)),
        option("stop_at_step", &TrainerConfig::stop_at_step,
               "Save a checkpoint and end there, to be resumed; the schedule does not notice. 0: "
               "off.",
               at_least(0)),
        option("max_minutes", &TrainerConfig::max_minutes,
               "Save a checkpoint and end after so many minutes, to be resumed; counted from the "
               "start of the program. 0: no limit.",
               at_least(0)),
        option("learning_rate", &TrainerConfig::learning_rate, "Peak learning rate.", at_least(0)),
        option("lr_scheduler_type", &TrainerConfig::lr_scheduler_type,
               "How the rate falls after the warmup.",
               one_of({"cosine", "linear", "constant", "warmup_stable_decay"})),
        option("warmup_steps", &TrainerConfig::warmup_steps,
               "Steps in which the rate rises from 0; 0: warmup_ratio decides.", at_least(0)),
        option("warmup_ratio", &TrainerConfig::warmup_ratio,
               "The same as a share of all steps, rounded up.", between(0, 1)),
        option("min_lr_ratio", &TrainerConfig::min_lr_ratio,
               "Share of the learning rate at which the decay ends.", between(0, 1)),
        option("weight_decay", &TrainerConfig::weight_decay,
               "Decoupled weight decay, on all that trains but norms.", at_least(0)),
        option("adam_beta1", &TrainerConfig::adam_beta1, "AdamW's beta 1.", in_half_open(0, 1)),
        option("adam_beta2", &TrainerConfig::adam_beta2, "AdamW's beta 2.", in_half_open(0, 1)),
        option("adam_epsilon", &TrainerConfig::adam_epsilon, "AdamW's epsilon.", greater_than(0)),
        option("max_grad_norm", &TrainerConfig::max_grad_norm,
               "Gradients are scaled down to this global norm; 0: never.", at_least(0)),
        option("max_nonfinite_steps", &TrainerConfig::max_nonfinite_steps,
               "A step whose loss or gradients are not finite is never applied; so many in a row "
               "end the run.",
               at_least(1)),
        option("loss_reduction", &TrainerConfig::loss_reduction,
               "token: every supervised token of a step weighs the same. micro_batch_mean: the "
               "mean over the micro-batches' means, as the original.",
               one_of({"token", "micro_batch_mean"})),
        option("gradient_checkpointing", &TrainerConfig::gradient_checkpointing,
               "Keep only each layer's input and recompute the rest in the backward pass: less "
               "memory, a third more time."),
        option("head_chunk_rows", &TrainerConfig::head_chunk_rows,
               "Supervised tokens whose logits are in memory at once.", between(1, 1048576)),
        option("logging_steps", &TrainerConfig::logging_steps,
               "A line in trainer_log.jsonl every so many steps.", at_least(1)),
        option("report_to", &TrainerConfig::report_to,
               "Where the log's numbers go besides trainer_log.jsonl: tensorboard (event files in "
               "output_dir/runs) or none.",
               one_of({"tensorboard", "none"})),
        option("peak_tflops", &TrainerConfig::peak_tflops,
               "Peak of the device's matrix products in TFLOP/s, against which MFU is stated; 0: "
               "measured at the start.",
               at_least(0)),
        option("profile", &TrainerConfig::profile,
               "Trace some steps, the first two left out: output_dir/profile/trace.json for "
               "chrome://tracing or Perfetto, and the operators that took the most time."),
        option("profile_steps", &TrainerConfig::profile_steps, "How many steps profile traces.",
               between(1, 1000)),
        option("eval_steps", &TrainerConfig::eval_steps,
               "Evaluate the validation sets every so many steps and at the end; 0: at the end "
               "only.",
               at_least(0)),
        option("metric_for_best_model", &TrainerConfig::metric_for_best_model,
               "What makes a model the best, lower is better: eval_loss (the mean over the "
               "validation sets) or eval_NAME_loss of one set."),
        option("load_best_model_at_end", &TrainerConfig::load_best_model_at_end,
               "The result is the model of the best evaluation instead of the last step's; a "
               "checkpoint is saved whenever an evaluation is the best so far."),
        option("early_stopping_patience", &TrainerConfig::early_stopping_patience,
               "End when so many evaluations in a row were not better; 0: never.", at_least(0)),
        option("early_stopping_threshold", &TrainerConfig::early_stopping_threshold,
               "By how much an evaluation has to be better to count.", at_least(0)),
        option("sample_prompts", &TrainerConfig::sample_prompts,
               "Prompts to answer on the way, greedily, in the log and samples.jsonl: what a user "
               "says (sft) or the beginning of a text (pretrain)."),
        option("sample_steps", &TrainerConfig::sample_steps,
               "Answer them every so many steps; 0: with each evaluation.", at_least(0)),
        option("sample_max_new_tokens", &TrainerConfig::sample_max_new_tokens,
               "Tokens of such an answer at most.", between(1, 65536)),
        option("save_steps", &TrainerConfig::save_steps,
               "A checkpoint every so many steps; 0: only when stopped by a signal, "
               "max_minutes or stop_at_step.",
               at_least(0)),
        option("save_total_limit", &TrainerConfig::save_total_limit,
               "Keep only the newest so many checkpoints, the best one among them; 0: all.",
               at_least(0)),
        option("save_in_background", &TrainerConfig::save_in_background,
               "Write checkpoints while training goes on, from a copy in host memory of what "
               "trains and its moments; false: training waits."),
        option("save_dtype", &TrainerConfig::save_dtype,
               "Type of the saved model, or of an adapter's full matrices; auto: as the base is "
               "stored. Checkpoints are always float32.",
               one_of({"auto", "float32", "bfloat16", "float16"})),
        option("merge_final", &TrainerConfig::merge_final,
               "Method lora: write base + adapter as a plain model folder too, to "
               "output_dir/merged, compared with what it was made from."),
        option("seed", &TrainerConfig::seed, "Of the order of rows, dropout and new adapters.",
               at_least(0)));
    return std::tuple_cat(own, GuardConfig::options(), MethodConfig::options());
  }
};

// Everything `llama2zh pretrain`, `llama2zh sft` and `llama2zh dpo` can be told.
struct RunConfig {
  std::string output_dir;
  std::string method = "lora";
  bool overwrite = false;
  bool resume = false;
  std::string resume_from;
  std::vector<std::string> allow_changed;
  bool plan_only = false;
  ModelConfig model;
  LoraConfig lora;
  DataConfig data;
  TrainerConfig train;
  DistributedConfig distributed;
  PreferenceConfig preference;
  static auto options() {
    return std::tuple(
        option("output_dir", &RunConfig::output_dir,
               "Folder for the result, trainer_log.jsonl, run_config.json and checkpoint-N."),
        option("method", &RunConfig::method,
               "lora: adapters and modules_to_save train, the rest is frozen. full: every weight.",
               one_of({"lora", "full"})),
        option("overwrite", &RunConfig::overwrite,
               "Replace the run that is in output_dir, its checkpoints too."),
        option("resume", &RunConfig::resume,
               "Go on from the newest checkpoint in output_dir that verifies."),
        option("resume_from", &RunConfig::resume_from,
               "Go on from this checkpoint-N folder of output_dir and no other."),
        option("allow_changed", &RunConfig::allow_changed,
               "Options that may differ from the checkpoint's when resuming: keys, or data, model, "
               "tokenizer for what they hold."),
        option("plan_only", &RunConfig::plan_only,
               "Check everything, print the plan and end before the weights are loaded."),
        option("model", &RunConfig::model, "The model to train."),
        option("lora", &RunConfig::lora, "The adapter, for method lora."),
        option("data", &RunConfig::data, "Rows and blocks."),
        option("train", &RunConfig::train, "Optimizer, schedule, saving."),
        option("distributed", &RunConfig::distributed, "Several processes that train together."),
        option("preference", &RunConfig::preference, "The loss of `llama2zh dpo`."));
  }
};

}  // namespace llama2zh
