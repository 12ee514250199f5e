#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "commands/run_program.h"

namespace llama2zh {

// Puts into `folder` what a test of verbs trains on: text.txt (the project's licence), t.model (400
// pieces of it) and base, a random model of two layers. `more`: further options of init-model.
inline void make_tiny_base(const std::filesystem::path& folder,
                           const std::vector<std::string>& more = {}) {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  std::filesystem::copy_file(std::string(source != nullptr ? source : ".") + "/LICENSE",
                             folder / "text.txt");
  const auto run = [&](const std::vector<std::string>& args) {
    const ProgramResult result = run_program(folder, args);
    ASSERT_EQ(result.exit_code, 0) << args[0] << ": " << result.err;
  };
  run({"train-tokenizer", "--input", "text.txt", "--vocab-size", "400", "--output", "t.model"});
  std::vector<std::string> args = {
      "init-model", "--tokenizer",           "t.model", "--hidden-size",
      "32",         "--intermediate-size",   "64",      "--num-hidden-layers",
      "2",          "--num-attention-heads", "4",       "--output",
      "base"};
  args.insert(args.end(), more.begin(), more.end());
  run(args);
}

}  // namespace llama2zh
