#pragma once

#include "llama2zh/data/datasets.h"
#include "llama2zh/train/run_config.h"
#include "llama2zh/train/samples.h"
#include "llama2zh/train/trainer.h"

namespace llama2zh {

// The whole of `llama2zh pretrain` (kPretrain), `llama2zh sft` (kSft) and `llama2zh dpo` (kSft with
// data.format "preference"; it also leaves reference_log_probs*.safetensors): checks what can be
// checked before weights are loaded, prints the plan, trains, and leaves in output_dir an adapter
// folder (method lora) or a model folder (method full), trainer_log.jsonl and run_config.json.
// Everything that is wrong is an Error; SIGINT, SIGTERM and max_minutes save a checkpoint and give
// kStopped (without one if no step was made). `generate` answers train.sample_prompts.
TrainOutcome run_training(RunConfig config, RowKind kind, const SampleGenerator& generate = {});

}  // namespace llama2zh
