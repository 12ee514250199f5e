#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace llama2zh {

// A file or folder that is read, and the option that named it: "--base", "model.path".
struct NamedInput {
  std::string option;
  std::filesystem::path path;  // empty: none was named
};

// What writing an output folder takes away: files of that folder itself, or all below it.
enum class Replaces { kFiles, kFolder };

// kUsage naming the option if an input is the output folder or, with kFolder, lies in it: it would be lost. Paths are compared with
// symbolic links resolved; they need not exist. `where` is the option of the output.
void refuse_input_as_output(const std::string& where, const std::filesystem::path& output,
                            const std::vector<NamedInput>& inputs, Replaces replaces);

// kUsage naming files of `folder` that are neither in its manifest nor among the names that model, tokenizer and adapter folders have:
// a folder that holds anything else is not replaced. One that is not there or empty is fine.
void check_replaceable(const std::filesystem::path& folder);

}  // namespace llama2zh
