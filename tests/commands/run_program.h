#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"

namespace llama2zh {

struct ProgramResult {
  int exit_code = 0;
  std::string out;
  std::string err;
};

inline std::string shell_quote(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

// The program that ctest names in LLAMA2ZH_BINARY, run with `args` in `folder`; its standard error goes through a file.
inline ProgramResult run_program(const std::filesystem::path& folder,
                                 const std::vector<std::string>& args,
                                 const std::string& input = "") {
  const char* binary = std::getenv("LLAMA2ZH_BINARY");
  if (binary == nullptr) fail_usage("LLAMA2ZH_BINARY", "is not set", "run the tests through ctest");
  const std::filesystem::path err = folder / "stderr.txt";
  const std::filesystem::path in = folder / "stdin.txt";
  std::ofstream(in) << input;
  std::string line = "cd " + shell_quote(folder.string()) + " && " + shell_quote(binary);
  for (const std::string& arg : args) line += " " + shell_quote(arg);
  line += " < " + shell_quote(in.string()) + " 2> " + shell_quote(err.string());
  ProgramResult result;
  FILE* pipe = popen(line.c_str(), "r");
  std::array<char, 4096> buffer;
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), pipe))
    result.out.append(buffer.data(), n);
  const int status = pclose(pipe);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  std::ifstream stream(err);
  result.err.assign(std::istreambuf_iterator<char>(stream), {});
  return result;
}

}  // namespace llama2zh
