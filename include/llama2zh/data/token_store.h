#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/data/row_source.h"

namespace llama2zh {

// A token store is a folder of tokenised rows: for each set ("train", and "validation" if rows were
// held out) shards SET-NNNNN.ids (uint16 or uint32 token ids, little endian), SET-NNNNN.rows (uint64
// for each row: where it ends in the shard, in tokens) and, for dialogues, SET-NNNNN.mask (a byte a
// token: 1 if it is a target; without it all are). bad_rows.txt names skipped rows. The manifest,
// written last, holds tokenizer, options, inputs, counts and checksums.
struct ShardInfo {
  int64_t rows = 0, tokens = 0;
};
struct StoreSet {
  int64_t rows = 0, tokens = 0, supervised = 0;
  int64_t longest = 0;  // tokens of the longest row
  RowCounts counts;     // what was left out is counted in "train"
  std::vector<ShardInfo> shards;
};
struct StoreInfo {
  RowKind kind = RowKind::kPretrain;
  std::string tokenizer_sha256;
  int64_t vocab_size = 0;
  int64_t id_bytes = 2;
  ordered_json key;         // everything the tokens depend on: options, inputs, tokenizer
  std::string fingerprint;  // 16 hex digits over all files
  std::map<std::string, StoreSet> sets;
};

bool is_token_store(const std::filesystem::path& folder);
// Checks the manifest and the files' sizes, not what is in them. kFormat.
StoreInfo read_store_info(const std::filesystem::path& folder);
// Also every checksum, row and token id. kFormat naming the file.
void verify_token_store(const std::filesystem::path& folder);

// The rows of one set, memory-mapped: pages come into memory as they are read and can leave it
// again. Deleting or replacing the folder later does no harm. kFormat as read_store_info().
std::shared_ptr<const RowSource> open_token_store(const std::filesystem::path& folder,
                                                  const std::string& set);

}  // namespace llama2zh
