#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "llama2zh/model/load.h"

namespace llama2zh {

// Base + adapters -> a plain model folder: W + sum of scaling_i * B_i A_i in fp32, rounded once to
// the base's type; trained embeddings and head taken over (those of the last adapter that has
// them), as well as the template that the last adapter names. One tensor in memory at a time;
// Stopped where a stop is asked for.
struct MergeOptions {
  std::filesystem::path base;
  std::vector<std::filesystem::path> adapters;  // in order
  std::filesystem::path output;                 // staged by the caller
  uint64_t max_shard_bytes = 5'000'000'000;
  std::string dtype = "auto";     // of the result; auto: as the base
  bool allow_other_base = false;  // go on where an adapter's manifest names another base
};
void merge_adapters(const MergeOptions& options, const Tokenizer* tokenizer);

// Logits of merged against base + adapters on fixed token rows, both in fp32 if the result is fp32,
// else bf16.
struct MergeComparison {
  double max_abs_difference = 0;
  double mean_kl_divergence = 0;  // of the merged next-token distribution from the unmerged one
  double top1_agreement = 0;
  int64_t positions = 0;
};
MergeComparison compare_merge(const std::filesystem::path& merged, const MergeOptions& options);
// kData naming `merged` if the two choose another next token more often than the rounding of weights
// explains.
void require_agreement(const MergeComparison& comparison, const std::filesystem::path& merged);

}  // namespace llama2zh
