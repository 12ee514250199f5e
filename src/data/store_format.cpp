// The store's manifest: formats/manifest.h, with in "extra" what token_store.h's StoreInfo says.
#include "data/store_format.h"

#include <cstdio>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

constexpr const char* kPrepareAgain = "prepare the store again";

// The checksums that the manifest lists are a fingerprint of the whole.
std::string fingerprint_of(const ordered_json& manifest) {
  std::string sums;
  for (const auto& file : manifest.at("files")) {
    const auto name = file.at("name").get<std::string>();
    if (name != kBadRowsFile) sums += cat(name, " ", file.at("xxh64").get<std::string>(), "\n");
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(xxh64(sums)));
  return text;
}

void check_set(const fs::path& folder, const std::string& name, const StoreSet& set,
               const StoreInfo& info) {
  ShardInfo sum;
  for (size_t i = 0; i < set.shards.size(); ++i) {
    const ShardInfo& shard = set.shards[i];
    const auto expect_size = [&](const char* extension, int64_t width, int64_t count) {
      const fs::path path = folder / shard_name(name, i, extension);
      std::error_code error;
      const uint64_t size = fs::file_size(path, error);
      if (error || count < 0 || size != static_cast<uint64_t>(width * count)) {
        fail_format(path.string(),
                    error ? "the file is missing"
                          : cat("it has ", size, " bytes, expected ", width * count),
                    kPrepareAgain);
      }
    };
    expect_size("ids", info.id_bytes, shard.tokens);
    expect_size("rows", 8, shard.rows);
    if (info.kind == RowKind::kSft) expect_size("mask", 1, shard.tokens);
    sum.rows += shard.rows;
    sum.tokens += shard.tokens;
  }
  if (sum.rows != set.rows || sum.tokens != set.tokens) {
    fail_format(folder.string(), cat("the shards of \"", name, "\" do not add up to its counts"),
                kPrepareAgain);
  }
}

}  // namespace

std::string row_kind_name(RowKind kind) { return kind == RowKind::kSft ? "sft" : "pretrain"; }

std::string shard_name(const std::string& set, size_t shard, const char* extension) {
  char number[24];
  std::snprintf(number, sizeof number, "-%05zu.", shard);
  return set + number + extension;
}

ordered_json counts_to_json(const RowCounts& counts) {
  return {{"rows", counts.rows},
          {"bad", counts.bad},
          {"overlong", counts.overlong},
          {"dropped", counts.dropped},
          {"filtered", counts.filtered},
          {"duplicates", counts.duplicates},
          {"characters", counts.characters},
          {"first_bad", counts.first_bad}};
}

RowCounts counts_from_json(const ordered_json& value) {
  RowCounts counts;
  counts.rows = value.at("rows");
  counts.bad = value.at("bad");
  counts.overlong = value.at("overlong");
  counts.dropped = value.at("dropped");
  counts.filtered = value.at("filtered");
  counts.duplicates = value.at("duplicates");
  counts.characters = value.at("characters");
  counts.first_bad = value.at("first_bad");
  return counts;
}

ordered_json set_to_json(const StoreSet& set) {
  ordered_json shards = ordered_json::array();
  for (const ShardInfo& shard : set.shards)
    shards.push_back({{"rows", shard.rows}, {"tokens", shard.tokens}});
  return {{"rows", set.rows},       {"tokens", set.tokens}, {"supervised", set.supervised},
          {"longest", set.longest}, {"shards", shards},     {"counts", counts_to_json(set.counts)}};
}

StoreSet set_from_json(const ordered_json& value) {
  StoreSet set;
  set.rows = value.at("rows");
  set.tokens = value.at("tokens");
  set.supervised = value.at("supervised");
  set.longest = value.at("longest");
  set.counts = counts_from_json(value.at("counts"));
  for (const auto& shard : value.at("shards"))
    set.shards.push_back({shard.at("rows"), shard.at("tokens")});
  return set;
}

bool is_token_store(const fs::path& folder) {
  if (!has_manifest(folder)) return false;
  return read_manifest(folder).kind == kStoreKind;
}

StoreInfo read_store_info(const fs::path& folder) {
  const Manifest manifest = read_manifest(folder);
  if (manifest.kind != kStoreKind) {
    fail_format(folder.string(), cat("it holds a ", manifest.kind, ", not tokens"),
                "make a store with llama2zh prepare");
  }
  verify_manifest(folder, /*deep=*/false);
  StoreInfo info;
  info.tokenizer_sha256 = manifest.tokenizer_sha256;
  info.vocab_size = manifest.vocab_size;
  try {
    info.kind = manifest.extra.at("row_kind") == "sft" ? RowKind::kSft : RowKind::kPretrain;
    info.id_bytes = manifest.extra.at("id_bytes");
    info.key = manifest.extra.at("key");
    for (const auto& [name, set] : manifest.extra.at("sets").items())
      info.sets[name] = set_from_json(set);
    info.fingerprint = fingerprint_of(read_ordered_json_file(folder / kManifestName));
  } catch (const json::exception& error) {
    fail_format((folder / kManifestName).string(), error.what(), kPrepareAgain);
  }
  if (info.id_bytes != 2 && info.id_bytes != 4)
    fail_format(folder.string(), cat("ids of ", info.id_bytes, " bytes, expected 2 or 4"));
  for (const auto& [name, set] : info.sets) check_set(folder, name, set, info);
  return info;
}

}  // namespace llama2zh
