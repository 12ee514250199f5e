// What an output folder may take the place of. --overwrite is for a result of ours, or a model of the same kind; a mistyped path must
// not cost anybody's files.
#include "llama2zh/formats/output_folder.h"

#include <algorithm>
#include <set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

constexpr size_t kNamedFiles = 4;  // foreign files that an error names

fs::path resolved(const fs::path& path) {
  std::error_code error;
  fs::path out = fs::weakly_canonical(fs::absolute(path), error);
  if (error) out = fs::absolute(path).lexically_normal();
  return out.has_filename() ? out : out.parent_path();
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  const auto differ = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return differ.first == folder.end();
}

// Names that model, tokenizer and adapter folders have, ours and those of the hubs.
bool is_model_file(const std::string& name) {
  static const std::set<std::string> kNames = {kManifestName,
                                               "config.json",
                                               "generation_config.json",
                                               "params.json",
                                               "tokenizer.model",
                                               "tokenizer.json",
                                               "tokenizer_config.json",
                                               "special_tokens_map.json",
                                               "added_tokens.json",
                                               "chat_template.jinja",
                                               "adapter_config.json",
                                               "adapter_model.safetensors",
                                               "adapter_model.bin",
                                               "model.safetensors.index.json",
                                               "pytorch_model.bin.index.json"};
  const auto between = [&](std::string_view begin, std::string_view end) {
    return name.starts_with(begin) && name.ends_with(end);
  };
  return kNames.count(name) != 0 || between("model", ".safetensors") ||
         between("pytorch_model", ".bin") || between("consolidated.", ".pth");
}

// An unreadable manifest vouches for nothing.
std::set<std::string> listed_files(const fs::path& folder) {
  std::set<std::string> names;
  if (!has_manifest(folder)) return names;
  try {
    for (const std::string& name : manifest_files(folder)) names.insert(name);
  } catch (const Error&) {
    names.clear();
  }
  return names;
}

}  // namespace

void refuse_input_as_output(const std::string& where, const fs::path& output,
                            const std::vector<NamedInput>& inputs, Replaces replaces) {
  if (output.empty()) return;
  const fs::path target = resolved(output);
  for (const NamedInput& input : inputs) {
    if (input.path.empty()) continue;
    const fs::path source = resolved(input.path);
    const bool same = source == target;
    if (!same && !(replaces == Replaces::kFolder && lies_in(source, target))) continue;
    fail_usage(where,
               same ? cat("'", output.string(), "' is also ", input.option, ", which would be lost")
                    : cat(input.option, " (", input.path.string(), ") lies in '", output.string(),
                          "' and would be lost"),
               "name another folder");
  }
}

void check_replaceable(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) return;
  const std::set<std::string> listed = listed_files(folder);
  std::vector<std::string> foreign;
  fs::recursive_directory_iterator entries(folder, error);
  if (error) fail_io(folder.string(), "the folder can't be read", error.value());
  for (; entries != fs::recursive_directory_iterator() && foreign.size() <= kNamedFiles;
       entries.increment(error)) {
    if (entries->is_directory(error) && !entries->is_symlink(error)) continue;
    const std::string name = entries->path().lexically_relative(folder).generic_string();
    if (listed.count(name) == 0 && !is_model_file(name)) foreign.push_back(name);
  }
  if (error) fail_io(folder.string(), "the folder can't be read", error.value());
  if (foreign.empty()) return;
  if (foreign.size() > kNamedFiles) foreign[kNamedFiles] = "...";
  fail_usage(folder.string(),
             cat("it holds files that are no part of a model, tokenizer or adapter (",
                 join(foreign, ", "), "), so it is not replaced"),
             "move them away or name another folder");
}

}  // namespace llama2zh
