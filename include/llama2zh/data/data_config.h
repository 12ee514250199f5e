#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"

namespace llama2zh {

// One source of a mixture. What an epoch takes of it: weight, epochs or tokens.
struct MixtureSource {
  std::string path;
  std::optional<double> weight;
  std::optional<double> epochs;
  std::optional<int64_t> tokens;
  static auto options() {
    return std::tuple(
        option("path", &MixtureSource::path, "A token store, or a file, folder or glob.",
               not_empty()),
        option("weight", &MixtureSource::weight,
               "Its share of an epoch's blocks among the weights of all sources; the epoch lasts "
               "until every source was seen once, the others begin again.",
               greater_than(0)),
        option("epochs", &MixtureSource::epochs,
               "How often an epoch goes through it; may be a fraction.", between(1e-9, 1e6)),
        option("tokens", &MixtureSource::tokens, "How many tokens an epoch takes of it.",
               at_least(1)));
  }
};

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
  std::vector<MixtureSource> mixture;
  std::string cache_dir;
  std::string txt_documents = "whole";
  bool deduplicate = false;
  int64_t min_characters = 0;
  int64_t max_characters = 0;
  int64_t threads = 0;
  int64_t prefetch = 4;
  static auto options() {
    return std::tuple(
        option("train_files", &DataConfig::train_files,
               "Files, folders or globs: .txt, .json, .jsonl, each also .gz or .zst; or token "
               "stores."),
        option("validation_files", &DataConfig::validation_files,
               "Held-out files; each is one evaluation set named after the file."),
        option("validation_split", &DataConfig::validation_split,
               "Share of the training rows to hold out, by the hash of their text, when there are "
               "no validation files.",
               in_half_open(0, 1)),
        option("field", &DataConfig::field,
               "Pretraining: JSON key of the text; auto takes input or text."),
        option("format", &DataConfig::format,
               "SFT rows: conversations (the original's and ShareGPT's), alpaca "
               "{instruction,input,output}, query_response, or auto, which also takes {text} rows "
               "among them: plain text learnt whole, against forgetting. preference: pairs of "
               "answers, for `llama2zh dpo`, which sets it.",
               one_of({"auto", "conversations", "alpaca", "query_response", "preference"})),
        option("template", &DataConfig::chat_template, "SFT: chat template, stored with the model.",
               one_of({"v0.1", "v0.2", "vllm", "llama2", "llama2_zh", "chatml", "smollm2", "llama3",
                       "zephyr", "alpaca", "plain"})),
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
               "drop_turns from the end until it fits, or drop_row. Of a preference pair both "
               "answers together count; drop_turns is not for them.",
               one_of({"keep_last", "drop_turns", "drop_row"})),
        option("shuffle", &DataConfig::shuffle,
               "A new order of blocks each epoch, from seed and epoch; false keeps the order of "
               "the files."),
        option("skip_bad_rows", &DataConfig::skip_bad_rows,
               "Count and skip rows that can't be read instead of stopping at the first."),
        option("max_rows", &DataConfig::max_rows,
               "Use only the first so many training rows; 0: all.", at_least(0)),
        option("mixture", &DataConfig::mixture,
               "Instead of train_files: sources that are mixed, each with its weight, epochs or "
               "tokens: [{\"path\": \"zh\", \"epochs\": 1}, ...]."),
        option("cache_dir", &DataConfig::cache_dir,
               "Folder for what was tokenised from raw files; empty: $LLAMA2ZH_CACHE/data, or "
               "llama2zh/data in $XDG_CACHE_HOME or ~/.cache."),
        option("txt_documents", &DataConfig::txt_documents,
               "What is a document in a .txt: the whole file, what lies between blank_lines, or "
               "each of its lines.",
               one_of({"whole", "blank_lines", "lines"})),
        option("deduplicate", &DataConfig::deduplicate,
               "Leave out rows whose text was there before, to the letter; 16 to 32 bytes of "
               "memory a row."),
        option("min_characters", &DataConfig::min_characters, "Leave out shorter texts.",
               between(0, 1 << 24)),
        option("max_characters", &DataConfig::max_characters, "Leave out longer texts; 0: none.",
               at_least(0)),
        option("threads", &DataConfig::threads, "Threads that tokenise; 0: one a core.",
               between(0, 4096)),
        option("prefetch", &DataConfig::prefetch,
               "Micro-batches that are made ready ahead of the training step; 0: none.",
               between(0, 4096)));
  }
};

}  // namespace llama2zh
