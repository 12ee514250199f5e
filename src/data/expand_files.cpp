// Patterns of the config to files, with POSIX glob(3).
#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>

#include "data/row_file.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/datasets.h"

namespace llama2zh {
namespace {

std::vector<std::string> glob_matches(const std::string& pattern) {
  glob_t found{};
  const std::unique_ptr<glob_t, decltype(&::globfree)> guard(&found, &::globfree);
  if (::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found) != 0) return {};
  return {found.gl_pathv, found.gl_pathv + found.gl_pathc};
}

void add_folder(const std::string& folder, std::vector<std::string>& files) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && is_data_file(entry.path().string()))
      files.push_back(entry.path().string());
  }
}

std::vector<std::string> files_of_pattern(const std::string& pattern) {
  std::error_code ignored;
  std::vector<std::string> matches = {pattern};
  if (!std::filesystem::exists(pattern, ignored)) {
    matches = glob_matches(pattern);
    if (matches.empty()) fail_usage(pattern, "no such file or folder, and no match as a pattern");
  }
  std::vector<std::string> files;
  try {
    for (const std::string& match : matches) {
      if (std::filesystem::is_directory(match))
        add_folder(match, files);
      else
        files.push_back(match);
    }
  } catch (const std::filesystem::filesystem_error& error) {
    fail_io(pattern, "the path can't be examined", error.code().value());
  }
  if (files.empty()) {
    fail_usage(pattern,
               "the folder holds no .txt, .json or .jsonl file (nor one with .gz or .zst)");
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<std::string> expand_files(const std::vector<std::string>& patterns) {
  std::vector<std::string> files;
  std::set<std::string> seen;
  for (const std::string& pattern : patterns) {
    for (std::string& file : files_of_pattern(pattern)) {
      if (seen.insert(file).second) files.push_back(std::move(file));
    }
  }
  return files;
}

}  // namespace llama2zh
