#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <tuple>
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
  int64_t best_of = 0;                      // made, of which `answers` stay; 0: as many
  int64_t logprobs = -1;                    // likeliest tokens reported beside each; -1: none
  Constraint constraint;                    // of each answer
  RequestKind kind = RequestKind::kAnswer;  // or embeddings: {"index", "embedding", "tokens"}
  bool normalize = false;
  std::string settings;  // of the model and all else that decides the answers, as text
};

// How generate and evaluate generate ask the model, and the files of a RowsJob.
struct AnswerOptions {
  bool raw = false;
  std::string system;
  std::string template_name;
  std::string use_adapter;
  std::string input;
  std::string output;
  bool overwrite = false;
  static auto options() {
    using T = AnswerOptions;
    return std::tuple(
        option(
            "raw", &T::raw,
            "Send the prompt as it is, after BOS, without a template; the model continues it, and "
            "the text printed reads on from it, its first space included. "
            "Special tokens in it (</s>) become their ids."),
        option("system", &T::system, "System text; empty: the template's own."),
        option("template", &T::template_name,
               "Chat template; empty: the one stored with the model or adapter."),
        option("use_adapter", &T::use_adapter,
               "Which of the adapters given as NAME=DIR answers; empty: the model without them. A "
               "row's own \"adapter\" counts before it."),
        option(
            "input", &T::input,
            "Answer each row of this file of JSON lines or of one array (.gz, .zst too): prompt, "
            "or messages, conversations, instruction + input, query + history, input + target."),
        option("output", &T::output,
               "Where the answers to input go, in its order. Begun again after an interruption it "
               "goes on."),
        option("overwrite", &T::overwrite, "Replace output, and begin it anew."));
  }
  PromptForm form() const { return {raw, system}; }
};

// All options that decide the answers to a file of rows, beside the file, as text.
std::string answer_settings(const OptionTable& table);

// `table`: all options that decide the answers.
RowsJob rows_job(const AnswerOptions& options, const SamplingConfig& sampling,
                 const EngineConfig& engine, const OptionTable& table);

// Adds to an answer's object what its completions have more than the first text: "texts" of several;
// "logprobs" where they were asked for, a list (of several: of lists) of {"id", "token", "logprob",
// "top"}.
void add_details(ordered_json& object, const std::vector<Completion>& completions,
                 const Tokenizer& tokenizer);

// Answers the rows of a file of JSON lines or of one array, many at once, into a JSON lines file with one object for
// each, in their order ("priority" of a row lets it be answered before others): {"index", "text", "finish_reason", "prompt_tokens", "new_tokens"} and
// add_details(), or
// {"index", "error"} for a row that has no answer. Blank lines are no rows.
//
// Rows are collected in OUTPUT.llama2zh.partial, which becomes OUTPUT when all are there. Begun
// again with the same settings and input, it goes on behind the rows that it holds; with others it
// is a kUsage error, unless `overwrite`. A stop signal ends the work after the next step.
void generate_rows(const LoadedModel& loaded, const RowsJob& job);

}  // namespace llama2zh
