#include "commands/model_checksums.h"

#include <map>
#include <set>
#include <string>

#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

bool is_config_or_weights(const fs::path& file) {
  static const std::set<std::string> kConfigs = {"config.json", "params.json"};
  static const std::set<std::string> kWeights = {".safetensors", ".bin", ".pth", ".gguf"};
  return kConfigs.count(file.filename().string()) != 0 ||
         kWeights.count(file.extension().string()) != 0;
}

// As the manifest lists them, of files that still have the listed size.
std::map<std::string, std::string> listed_checksums(const fs::path& folder) {
  std::map<std::string, std::string> checksums;
  if (!has_manifest(folder)) return checksums;
  read_manifest(folder);  // refuses one that is not as it must be
  const ordered_json root = read_ordered_json_file(folder / kManifestName);
  for (const auto& file : root["files"]) {
    const fs::path path = folder / file["name"].get<std::string>();
    std::error_code missing;
    const uint64_t size = fs::file_size(path, missing);
    if (!missing && size == file["bytes"].get<uint64_t>())
      checksums[file["name"].get<std::string>()] = file["xxh64"].get<std::string>();
  }
  return checksums;
}

std::map<std::string, std::string> file_checksums(const fs::path& model) {
  if (!fs::is_directory(model)) return {{model.filename().string(), xxh64_file(model)}};
  const std::map<std::string, std::string> listed = listed_checksums(model);
  std::map<std::string, std::string> checksums;
  for (const auto& entry : fs::directory_iterator(model)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_regular_file() || !is_config_or_weights(name)) continue;
    const auto found = listed.find(name);
    checksums[name] = found != listed.end() ? found->second : xxh64_file(entry.path());
  }
  return checksums;
}

ordered_json adapter_checksums(const fs::path& folder) {
  ordered_json out = {{"path", folder.string()}};
  for (const char* name : {"adapter_model.safetensors", "adapter_model.bin"})
    if (fs::exists(folder / name)) out["sha256"] = sha256_file(folder / name);
  if (fs::exists(folder / "adapter_config.json"))
    out["config_sha256"] = sha256_file(folder / "adapter_config.json");
  return out;
}

}  // namespace

ordered_json model_checksums(const LoadRequest& request) {
  std::string lines;
  ordered_json files = ordered_json::object(), adapters = ordered_json::array();
  for (const auto& [name, checksum] : file_checksums(request.model)) {
    lines += cat(name, " ", checksum, "\n");
    files[name] = checksum;
  }
  for (const auto& folder : request.adapters) adapters.push_back(adapter_checksums(folder));
  return {{"model_hash", sha256_hex(lines)}, {"model_files", files}, {"adapters", adapters}};
}

}  // namespace llama2zh
