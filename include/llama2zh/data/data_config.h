#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"

namespace llama2zh {

// Where rows come from and how they become blocks; the "data" section of pretrain and sft.
struct DataConfig {
  std::vector<std::string> train_files;
  std::vector<std::string> validation_files;
  double validation_split = 0;
  std::string field = "auto";
  std::string format = "auto";
  std::string chat_template = "v0.2";
  std::string system;
  int64_t block_size = 512;
  bool packing = true;
  bool cross_documents = true;
  std::string overlong = "keep_last";
  bool shuffle = true;
  bool skip_bad_rows = false;
  int64_t max_rows = 0;
  static auto options() {
    return std::tuple(
        option("train_files", &DataConfig::train_files,
               "Files, folders or globs: .txt, .json, .jsonl, each also .gz or .zst."),
        option("validation_files", &DataConfig::validation_files,
               "Held-out files; each is one evaluation set named after the file."),
        option("validation_split", &DataConfig::validation_split,
               "Share of the training rows to hold out when there are no validation files.",
               in_half_open(0, 1)),
        option("field", &DataConfig::field,
               "Pretraining: JSON key of the text; auto takes input or text."),
        option("format", &DataConfig::format,
               "SFT rows: conversations (the original's and ShareGPT's), alpaca "
               "{instruction,input,output}, query_response, or auto, which also takes {text} rows "
               "among them: plain text learnt whole, against forgetting.",
               one_of({"auto", "conversations", "alpaca", "query_response"})),
        option("template", &DataConfig::chat_template, "SFT: chat template, stored with the model.",
               one_of({"v0.1", "v0.2", "vllm", "llama2", "llama2_zh", "chatml", "plain"})),
        option("system", &DataConfig::system,
               "SFT: system text for rows that have none; empty: the template's default."),
        option("block_size", &DataConfig::block_size, "Tokens in a block.", between(2, 1048576)),
        option("packing", &DataConfig::packing,
               "SFT: lay short rows end to end in one block, each seeing itself only. false pads "
               "every row to block_size as the original recipe did."),
        option("cross_documents", &DataConfig::cross_documents,
               "Pretraining: attention crosses document borders inside a block (the original "
               "recipe)."),
        option("overlong", &DataConfig::overlong,
               "SFT rows longer than block_size: keep_last block_size tokens (the original), "
               "drop_turns from the end until it fits, or drop_row.",
               one_of({"keep_last", "drop_turns", "drop_row"})),
        option("shuffle", &DataConfig::shuffle,
               "A new order of blocks each epoch, from seed and epoch; false keeps the order of "
               "the files."),
        option("skip_bad_rows", &DataConfig::skip_bad_rows,
               "Count and skip rows that can't be read instead of stopping at the first."),
        option("max_rows", &DataConfig::max_rows,
               "Use only the first so many training rows; 0: all.", at_least(0)));
  }
};

}  // namespace llama2zh
