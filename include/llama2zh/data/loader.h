#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "llama2zh/data/datasets.h"

namespace llama2zh {

// One micro-batch: sequences laid end to end. labels[t] is the token that position t has to predict
// (shifted already), -100 where there is none: the last position of each sequence, and positions
// whose next token is not supervised.
struct PackedBatch {
  at::Tensor ids;                   // [T] int64
  at::Tensor labels;                // [T] int64
  std::vector<int64_t> boundaries;  // of sequences: 0 ... T
  int64_t supervised = 0;           // labels >= 0
  std::vector<int64_t> rows;        // which rows (SFT) or blocks (pretraining) it holds
};

struct LoaderOptions {
  RowKind kind = RowKind::kPretrain;
  int64_t block_size = 512;
  int64_t micro_batch_size = 1;  // blocks in a micro-batch
  bool packing = true;
  bool cross_documents = true;
  bool shuffle = true;
  uint64_t seed = 100;
  int64_t pad_id = 2;  // padding token when packing is off (the original: EOS)
};

// Micro-batches of an epoch. batch(epoch, i) depends only on the rows, the options, epoch and i, so
// that resuming and splitting over ranks need no state but two numbers. Every row (block) occurs
// exactly once an epoch.
//
// Pretraining: rows concatenated in file order and cut into blocks of block_size; the last may be
// shorter, and a last block of one token, which could predict nothing, is left out. Blocks are
// permuted per epoch (shuffle). A block is one sequence (cross_documents), or one for each document
// in it.
//
// SFT with packing: rows are permuted per epoch and packed first-fit into blocks, which are permuted
// again. Without shuffle a block takes the next rows of the file that fit, so that the order stays.
// A row is one sequence, so the number of blocks differs a little from epoch to epoch. Without
// packing each row is one sequence of block_size tokens, filled up with pad_id (label -100).
class BatchLoader {
 public:
  // `rows` must outlive it. kData if an SFT row is longer than block_size.
  BatchLoader(const TokenRows& rows, const LoaderOptions& options);
  int64_t batches(int64_t epoch) const;  // micro-batches in that epoch
  PackedBatch batch(int64_t epoch, int64_t index) const;

 private:
  struct EpochPlan;
  const EpochPlan& plan(int64_t epoch) const;  // cached for one epoch; not thread-safe
  const TokenRows* rows_;
  LoaderOptions options_;
  mutable std::shared_ptr<const EpochPlan> plan_;
};

}  // namespace llama2zh
