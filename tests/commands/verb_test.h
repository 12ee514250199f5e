#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "commands/run_program.h"

namespace llama2zh {

// Verbs run one after the other in a folder that the tests of a suite share; a suite calls make_folder() first.
class VerbTest : public ::testing::Test {
 protected:
  static void make_folder(const std::string& name) {
    folder_ = std::filesystem::temp_directory_path() /
              ("llama2zh-" + name + "-" + std::to_string(getpid()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder_); }

  // Runs a verb that must succeed; its standard output.
  static std::string run(const std::vector<std::string>& args) {
    const ProgramResult result = run_program(folder_, args);
    EXPECT_EQ(result.exit_code, 0) << args[0] << ": " << result.err;
    return result.out;
  }
  // Runs a verb that must fail with this exit code and a message that holds `words`.
  static void expect_failure(const std::vector<std::string>& args, int exit_code,
                             const std::vector<std::string>& words) {
    const ProgramResult result = run_program(folder_, args);
    EXPECT_EQ(result.exit_code, exit_code) << args[0] << ": " << result.err;
    for (const std::string& word : words)
      EXPECT_NE(result.err.find(word), std::string::npos)
          << args[0] << ": no \"" << word << "\" in: " << result.err;
  }

  inline static std::filesystem::path folder_;
};

}  // namespace llama2zh
