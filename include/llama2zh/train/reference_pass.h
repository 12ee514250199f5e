#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "llama2zh/data/loader.h"
#include "llama2zh/distributed/process_group.h"
#include "llama2zh/train/preference_loss.h"

namespace llama2zh {

// Summed log-probabilities of both answers of every row of `loader` (rows in all: `rows`) under the
// model as it is, without dropout: the reference of preference losses, computed once before
// training. They are kept in `file` (safetensors) under `fingerprint`, which says what they belong
// to: a file of another one is computed anew, a complete one is read, and one that an interruption
// left is gone on with. None if a stop was asked for on the way: what is there is saved. kData if the
// model gives a value that is not finite, or a row is no pair.
// With a group (null: there is one rank) ranks take batches in turn and exchange what they computed
// when it is saved, which rank 0 does; all return the same.
std::optional<PairLogProbs> reference_log_probs(const Llama& model, const BatchLoader& loader,
                                                int64_t rows, int64_t head_chunk_rows,
                                                const std::filesystem::path& file,
                                                const std::string& fingerprint,
                                                ProcessGroup* group = nullptr);

// The same, from the file alone; none if it is not complete. kFormat if it can't be read.
std::optional<PairLogProbs> read_reference_log_probs(const std::filesystem::path& file,
                                                     int64_t rows, const std::string& fingerprint);

}  // namespace llama2zh
