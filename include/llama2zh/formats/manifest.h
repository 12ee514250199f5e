#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// Every folder we write carries llama2zh_manifest.json: what it is, which tokenizer and base it
// belongs to, and name, size and xxh64 of each file. Foreign folders have none and are taken as
// they are.
struct Manifest {
  std::string kind;              // "model", "adapter", "tokenizer", "checkpoint"
  std::string tokenizer_sha256;  // of tokenizer.model; may be empty
  int64_t vocab_size = 0;        // rows of the embedding; 0 if it has none
  std::string
      base_identity;   // for adapters: identity() of the base's manifest or config; may be empty
  ordered_json extra;  // step, options, ...
};
inline constexpr const char* kManifestName = "llama2zh_manifest.json";

// Lists and hashes the folder's files (recursively, without the manifest itself), writes the
// manifest last, fsyncs.
void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);
bool has_manifest(const std::filesystem::path& folder);
Manifest read_manifest(const std::filesystem::path& folder);
// Names of the files that the manifest lists, relative, with '/'.
std::vector<std::string> manifest_files(const std::filesystem::path& folder);
// Sizes always, checksums when `deep`. Throws kFormat naming the first file that is missing, short
// or changed.
void verify_manifest(const std::filesystem::path& folder, bool deep);

}  // namespace llama2zh
