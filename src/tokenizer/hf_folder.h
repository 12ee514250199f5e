#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

struct AddedToken {
  std::string text;
  int64_t id = 0;
  bool special = false;
  bool lstrip = false, rstrip = false;  // white space at that side in the text belongs to the token
  std::string where;                    // the file that names it
};

// What the JSON files of a Hugging Face folder say about its tokenizer; each missing file says nothing.
struct FolderSettings {
  struct Special {
    std::optional<std::string> text;  // tokenizer_config.json, else special_tokens_map.json
    std::optional<int64_t> id;        // config.json
    std::string where;
  };
  Special bos, eos, pad, unk;
  std::vector<AddedToken> added;  // each text once, by id
  bool legacy = true;             // transformers 4 takes a missing key for true
  std::optional<bool> add_bos;
  std::optional<double> model_max_length;
  std::string chat_template;
  std::string template_name;
};

// `known` are the added tokens that the vocabulary's own file names; what the JSON files say of them
// must agree. Errors are kFormat and name the file and key.
FolderSettings read_folder_settings(const TokenizerFiles& files,
                                    std::vector<AddedToken> known = {});

}  // namespace llama2zh
