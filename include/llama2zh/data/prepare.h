#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {

struct PrepareOptions {
  std::vector<std::string> files;  // as expand_files() gives them
  std::filesystem::path output;
  Existing existing = Existing::kRefuse;
  double held_out = 0;  // share of the texts, by their hash, that goes to the set "validation"
  int64_t shard_tokens = int64_t{1} << 28;
  double journal_seconds = 3;                         // how often what is done is made to last
  std::function<void(int64_t chunks)> on_chunk = {};  // after each chunk of this session
  std::function<bool()> stop = stop_requested;        // whether to stop, asked after each chunk
};
enum class PrepareOutcome { kFinished, kStopped };

// Everything that the tokens of a store depend on: tokenizer, files (path, size, time of change) and
// the options that count for rows of this kind.
ordered_json store_key(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                       const PrepareOptions& options);

// Tokenises the files into a token store (token_store.h) on data.threads threads, in memory that does
// not grow with the corpus (but for 16 to 32 bytes a row with deduplicate). The store appears when it
// is whole; until then OUTPUT.partial holds what is done. A stop that is asked for gives kStopped; the
// next call with the same key goes on there, after a crash too, and the result is the same byte for
// byte, with any number of threads. Errors are those of load_datasets().
PrepareOutcome prepare_store(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                             const PrepareOptions& options);

}  // namespace llama2zh
