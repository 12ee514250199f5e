#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "llama2zh/base/error.h"

namespace llama2zh::testing {

// The folder of real test data: LLAMA2ZH_SHARED/data, else ../shared/data beside the sources.
inline std::filesystem::path shared_data() {
  if (const char* shared = std::getenv("LLAMA2ZH_SHARED")) {
    return std::filesystem::path(shared) / "data";
  }
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return std::filesystem::path(source != nullptr ? source : ".") / ".." / "shared" / "data";
}

inline std::filesystem::path shared_tokenizer(const char* name) {
  return shared_data() / "tokenizers" / name;
}

// An own folder under the system's temporary one, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "llama2zh_test_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

// Expects an Error of `kind` whose text contains `part`.
template <typename Function>
void expect_error(ErrorKind kind, std::string_view part, Function function) {
  try {
    function();
    ADD_FAILURE() << "no error, expected one with: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
  }
}

}  // namespace llama2zh::testing

// Skips the running test, with its reason, where the data is not there. A macro, for it must return.
#define LLAMA2ZH_NEED_SHARED_DATA()                                                            \
  if (!std::filesystem::exists(llama2zh::testing::shared_tokenizer("llama2_tokenizer.model"))) \
  GTEST_SKIP() << "no test data in " << llama2zh::testing::shared_data()
