#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "commands/prompts.h"
#include "llama2zh/config/option.h"
#include "llama2zh/engine/engine.h"

namespace llama2zh {

// What `generate --input F --output G` answers, and how.
struct RowsJob {
  std::filesystem::path input, output;
  bool overwrite = false;
  PromptForm form;
  SamplingConfig sampling;  // row i draws with seed + i
  EngineConfig engine;
  std::string adapter;                      // of rows that name none
  int64_t answers = 1;                      // to each row; with more than one there is "texts" too
  std::string json_schema;                  // that answers are valid under; "": none
  RequestKind kind = RequestKind::kAnswer;  // or embeddings: {"index", "embedding", "tokens"}
  bool normalize = false;
  std::string settings;  // of the model and all else that decides the answers, as text
};

// All options that decide the answers to a file of rows, beside the file, as text.
std::string answer_settings(const OptionTable& table);

ordered_json texts_of(const std::vector<Completion>& completions);

// Answers the rows of a JSON lines file, many at once, into a JSON lines file with one object for
// each, in their order: {"index", "text", "finish_reason", "prompt_tokens", "new_tokens"}, or
// {"index", "error"} for a row that has no answer. Blank lines are no rows.
//
// Rows are collected in OUTPUT.llama2zh.partial, which becomes OUTPUT when all are there. Begun
// again with the same settings and input, it goes on behind the rows that it holds; with others it
// is a kUsage error, unless `overwrite`. A stop signal ends the work after the next step.
void generate_rows(const LoadedModel& loaded, const RowsJob& job);

}  // namespace llama2zh
