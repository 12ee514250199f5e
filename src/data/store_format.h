#pragma once

#include <string>

#include "llama2zh/data/token_store.h"

namespace llama2zh {

inline constexpr const char* kStoreKind = "tokens";
inline constexpr const char* kTrainSet = "train";
inline constexpr const char* kValidationSet = "validation";
inline constexpr const char* kBadRowsFile = "bad_rows.txt";

std::string row_kind_name(RowKind kind);
// "train-00003.ids"
std::string shard_name(const std::string& set, size_t shard, const char* extension);

ordered_json counts_to_json(const RowCounts& counts);
RowCounts counts_from_json(const ordered_json& value);
ordered_json set_to_json(const StoreSet& set);
StoreSet set_from_json(const ordered_json& value);

}  // namespace llama2zh
