#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/wire.h"
#include "llama2zh/model/load.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh::testing {

namespace fs = std::filesystem;

inline fs::path source_dir() {
  const char* dir = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return dir != nullptr ? fs::path(dir) : fs::current_path();
}

// Folder of the shared test data, or an empty path.
inline fs::path shared_data() {
  const char* dir = std::getenv("LLAMA2ZH_SHARED");
  const fs::path path = (dir != nullptr ? fs::path(dir) : source_dir() / "../shared") / "data";
  return fs::exists(path) ? path : fs::path();
}

inline json sampling_reference() {
  return read_json_file(source_dir() / "tests/reference/sampling.json");
}

// A folder of this test alone, removed at the end.
class TempFolder {
 public:
  TempFolder()
      : path_(fs::temp_directory_path() / ("llama2zh_" + std::to_string(std::random_device{}()))) {
    fs::create_directories(path_);
  }
  ~TempFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// A byte-fallback BPE tokenizer: 0-2 <unk> <s> </s>, 3-258 bytes, 259 "▁", then `pieces`.
inline Tokenizer tiny_tokenizer(const fs::path& folder, const std::vector<std::string>& pieces) {
  WireWriter proto;
  int64_t count = 0;
  const auto add = [&](const std::string& text, int type) {
    WireWriter piece;
    piece.bytes(1, text);
    piece.fixed32(2, static_cast<float>(type == 1 ? -count : 0));
    piece.varint(3, static_cast<uint64_t>(type));
    proto.bytes(1, piece.str());
    ++count;
  };
  add("<unk>", 2);
  add("<s>", 3);
  add("</s>", 3);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    add(text, 6);
  }
  add("▁", 1);
  for (const std::string& piece : pieces) add(piece, 1);
  WireWriter trainer;
  trainer.varint(3, 2);  // BPE
  trainer.varint(4, static_cast<uint64_t>(count));
  trainer.varint(35, 1);  // byte fallback
  proto.bytes(2, trainer.str());
  WireWriter normalizer;
  normalizer.bytes(1, "identity");
  normalizer.varint(4, 0);  // keep extra whitespace
  proto.bytes(3, normalizer.str());
  const fs::path file = folder / "tokenizer.model";
  write_file_atomic(file, proto.str());
  return Tokenizer::load(file);
}

inline constexpr TokenId kFirstPiece = 260;
inline TokenId byte_token(uint8_t byte) { return 3 + byte; }

inline LlamaConfig small_config(int64_t vocab_size, int64_t context = 64) {
  LlamaConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.max_position_embeddings = context;
  config.initializer_range = 0.3;  // attention that matters
  return config;
}

// A model whose greedy answer is `tokens` after BOS, then EOS: each token is followed by the next
// (so a token may occur only once). Layers are zero, the embedding is the identity, the head a
// table of successors.
inline std::unique_ptr<Llama> chain_model(int64_t vocab_size, const std::vector<TokenId>& tokens,
                                          int64_t context = 64, TokenId last = 2) {
  LlamaConfig config = small_config(vocab_size, context);
  config.num_hidden_layers = 1;
  config.num_attention_heads = config.num_key_value_heads = 1;
  config.hidden_size = config.head_dim = (vocab_size + 7) / 8 * 8;
  auto model = random_model(config, 1, at::kFloat, at::kCPU);
  model->for_each_weight([](const std::string& name, at::Tensor& weight) {
    if (name.find("norm") == std::string::npos) weight.zero_();
  });
  for (int64_t id = 0; id < vocab_size; ++id) model->embed_tokens[id][id].fill_(1);
  TokenId from = 1;
  const auto follow = [&](TokenId to) {
    model->lm_head.weight[to][from].fill_(1);
    from = to;
  };
  for (const TokenId token : tokens) follow(token);
  follow(last);
  return model;
}

}  // namespace llama2zh::testing
