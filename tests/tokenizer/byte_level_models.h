#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "llama2zh/base/json.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "tokenizer/shared_data.h"

namespace llama2zh::testing {

// byte_level.json of make_byte_level_vectors.py.
inline const json& byte_level_vectors() {
  static const json vectors = [] {
    const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    return read_json_file(std::filesystem::path(source != nullptr ? source : ".") /
                          "tests/tokenizer/data/byte_level.json");
  }();
  return vectors;
}

// Its tokenizer.json, with what a variant changes.
inline json byte_level_json(const json& changes = json::object()) {
  json whole = byte_level_vectors()["base"];
  for (const auto& [key, value] : changes.items()) {
    if (key == "model") {
      whole["model"].update(value);
    } else {
      whole[key] = value;
    }
  }
  return whole;
}

constexpr const char* kByteLevelConfig =
    R"({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|endoftext|>"})";

inline TokenizerFiles byte_level_files(const json& tokenizer,
                                       const std::string& config = kByteLevelConfig) {
  return {"tiny", {{"tokenizer.json", tokenizer.dump()}, {"tokenizer_config.json", config}}};
}

inline Tokenizer byte_level_tokenizer(const json& changes = json::object(),
                                      const std::string& config = kByteLevelConfig) {
  return Tokenizer::from_files(byte_level_files(byte_level_json(changes), config));
}

}  // namespace llama2zh::testing
