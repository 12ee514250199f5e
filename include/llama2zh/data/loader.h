#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
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
  // Which rows (SFT) or blocks (pretraining) it holds; of a mixture numbered through all sources.
  std::vector<int64_t> rows;
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

// One source of a mixture; at most one of the three says what an epoch takes of it, none: all of
// it once. Either every source has a weight or none has.
struct MixedRows {
  const RowSource* rows = nullptr;
  std::optional<double> weight;   // share of the epoch's blocks
  std::optional<double> epochs;   // passes over the source
  std::optional<int64_t> tokens;  // rounded up to blocks
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
// SFT with packing: rows are permuted per epoch and packed best-fit decreasing into blocks, which are
// permuted again. Without shuffle a block takes the next rows of the file that fit, so that the
// order stays. A row is one sequence. Without packing each row is one sequence of block_size tokens,
// filled up with pad_id (label -100).
//
// A mixture lays blocks of its sources one behind the other so that every stretch holds nearly the
// share of each. Sources keep their places from epoch to epoch: the g-th block that is taken of a
// source of n is in its pass g / n, and a pass takes every block once, in an order of its own. With
// weights an epoch is as short as it can be for every source to be seen once.
//
// Thread-safe; copies share what is cached.
class BatchLoader {
 public:
  // `rows` must outlive it. kData if an SFT row is longer than block_size, or a source of a mixture
  // makes no block; kUsage for shares that don't go together.
  BatchLoader(const RowSource& rows, const LoaderOptions& options);
  BatchLoader(const std::vector<MixedRows>& sources, const LoaderOptions& options);
  int64_t batches(int64_t epoch) const;  // micro-batches in that epoch; the same for all
  PackedBatch batch(int64_t epoch, int64_t index) const;

  struct SourceBlocks {
    int64_t blocks = 0;    // that the source makes
    int64_t in_epoch = 0;  // that an epoch takes of them; more than blocks: it begins again
  };
  std::vector<SourceBlocks> sources() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace llama2zh
