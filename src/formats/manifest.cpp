// llama2zh_manifest.json: {"format": 1, "kind", "tokenizer_sha256", "vocab_size", "base_identity",
// "extra", "files": [{"name", "bytes", "xxh64"}]}. Names are relative, with '/'. It is written after
// all other files, so that a folder without it is one whose writing did not end.
#include "llama2zh/formats/manifest.h"

#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kManifestFormat = 1;
constexpr const char* kMakeAgain = "copy the folder again, or make it again";

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto name = entry.path().lexically_relative(folder).generic_string();
    if (entry.is_regular_file() && name != kManifestName) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A member of that type or kFormat.
const ordered_json& member(const ordered_json& object, const char* key, ordered_json::value_t type,
                           const std::string& where) {
  const auto it = object.find(key);
  const bool right = it != object.end() && it->type() == type;
  if (!right) {
    fail_format(where, cat("\"", key, "\" is missing or not ", ordered_json(type).type_name()));
  }
  return *it;
}

ordered_json read_checked(const fs::path& folder) {
  using Type = ordered_json::value_t;
  const auto path = folder / kManifestName;
  const auto where = path.string();
  auto root = read_ordered_json_file(path);
  if (!root.is_object()) fail_format(where, "expected an object");
  const auto& format = member(root, "format", Type::number_unsigned, where);
  if (format != kManifestFormat) {
    fail_format(where,
                cat("format ", format.dump(), " is not known, ", kManifestFormat, " was expected"),
                "it may be from a newer version of this program");
  }
  for (const char* key : {"kind", "tokenizer_sha256", "base_identity"}) {
    member(root, key, Type::string, where);
  }
  member(root, "vocab_size", Type::number_unsigned, where);
  for (const auto& file : member(root, "files", Type::array, where)) {
    if (!file.is_object()) fail_format(where, "\"files\" must hold objects");
    const fs::path name = member(file, "name", Type::string, where).get<std::string>();
    const bool inside = !name.empty() && !name.is_absolute() &&
                        std::find(name.begin(), name.end(), "..") == name.end();
    if (!inside) fail_format(where, cat("file ", name, " lies outside the folder"));
    member(file, "bytes", Type::number_unsigned, where);
    member(file, "xxh64", Type::string, where);
  }
  return root;
}

}  // namespace

void write_manifest(const fs::path& folder, const Manifest& manifest) {
  ordered_json root;
  root["format"] = kManifestFormat;
  root["kind"] = manifest.kind;
  root["tokenizer_sha256"] = manifest.tokenizer_sha256;
  root["vocab_size"] = manifest.vocab_size;
  root["base_identity"] = manifest.base_identity;
  root["extra"] = manifest.extra.is_null() ? ordered_json::object() : manifest.extra;
  auto& files = root["files"] = ordered_json::array();
  for (const auto& name : files_below(folder)) {
    const auto path = folder / name;
    fsync_path(path);
    files.push_back({{"name", name}, {"bytes", fs::file_size(path)}, {"xxh64", xxh64_file(path)}});
  }
  write_json_file(folder / kManifestName, root);  // atomic, with fsync of file and folder
}

bool has_manifest(const fs::path& folder) {
  std::error_code ignored;
  return fs::is_regular_file(folder / kManifestName, ignored);
}

Manifest read_manifest(const fs::path& folder) {
  const auto root = read_checked(folder);
  Manifest manifest;
  manifest.kind = root["kind"].get<std::string>();
  manifest.tokenizer_sha256 = root["tokenizer_sha256"].get<std::string>();
  if (root["vocab_size"].is_number_unsigned() &&
      root["vocab_size"].get<uint64_t>() > (uint64_t{1} << 31)) {
    fail_format((folder / kManifestName).string(), "vocab_size is beyond any vocabulary");
  }
  manifest.vocab_size = root["vocab_size"].get<int64_t>();
  manifest.base_identity = root["base_identity"].get<std::string>();
  manifest.extra = root.value("extra", ordered_json::object());
  return manifest;
}

std::vector<std::string> manifest_files(const fs::path& folder) {
  std::vector<std::string> names;
  const auto root = read_checked(folder);
  for (const auto& file : root["files"]) names.push_back(file["name"].get<std::string>());
  return names;
}

void verify_manifest(const fs::path& folder, bool deep) {
  const auto root = read_checked(folder);
  for (const auto& file : root["files"]) {
    const auto path = folder / file["name"].get<std::string>();
    const auto expected = file["bytes"].get<uint64_t>();
    std::error_code error;
    const uint64_t size = fs::file_size(path, error);
    if (error) {
      fail_format(
          path.string(),
          cat("the file is missing: ", kManifestName, " lists it with ", expected, " bytes"),
          kMakeAgain);
    }
    if (size != expected) {
      fail_format(path.string(),
                  cat("the file has ", size, " bytes, ", expected,
                      " were expected: ", size < expected ? "it was cut" : "it changed"),
                  kMakeAgain);
    }
    if (deep && xxh64_file(path) != file["xxh64"].get<std::string>()) {
      fail_format(
          path.string(),
          cat("the file changed: its xxh64 is not ", file["xxh64"].get<std::string>(), " any more"),
          kMakeAgain);
    }
  }
}

}  // namespace llama2zh
