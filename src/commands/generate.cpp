// llama2zh generate: the answer to one prompt on standard output, or to each row of a file.
#include <algorithm>
#include <cstdio>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "commands/generate_rows.h"
#include "commands/inference_options.h"
#include "commands/prompts.h"
#include "commands/terminal.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/engine/generator.h"

namespace llama2zh {
namespace {

struct GenerateOptions {
  std::string prompt;
  std::string prompt_file;
  int64_t num_return_sequences = 1;
  int64_t best_of = 0;
  int64_t logprobs = -1;
  std::string json_schema;
  bool json_object = false;
  std::string pattern;
  std::vector<std::string> choices;
  std::string grammar;
  bool json_output = false;
  static auto options() {
    using T = GenerateOptions;
    return std::tuple(
        option("prompt", &T::prompt, "The user's message; - reads standard input."),
        option("prompt_file", &T::prompt_file, "File with the prompt; - reads standard input."),
        option("num_return_sequences", &T::num_return_sequences,
               "Answers to each prompt: several draws, or with num_beams the best beams.",
               between(1, 64)),
        option("best_of", &T::best_of,
               "Draw so many answers and keep the num_return_sequences with the highest mean "
               "log-probability; 0: no more than are kept.",
               between(0, 64)),
        option(
            "logprobs", &T::logprobs,
            "Report each token's log-probability and so many of the likeliest beside it, in JSON; "
            "-1: none.",
            between(-1, 100)),
        option("json_schema", &T::json_schema,
               "File with a JSON Schema that the answer is made valid under."),
        option("json_object", &T::json_object, "The answer is made a JSON object."),
        option("pattern", &T::pattern,
               "Regular expression that the answer as a whole is made to match."),
        option("choices", &T::choices, "Texts of which the answer is made one."),
        option("grammar", &T::grammar,
               "File with a grammar (GBNF, as llama.cpp's) that the answer is made to follow."),
        option("json", &T::json_output,
               "One object {\"text\",\"ids\",\"prompt_tokens\",\"finish_reason\"}, with \"texts\" "
               "where "
               "several answers were asked for."));
  }
};

// `given`: --prompt was there; its text may well be empty.
std::string read_prompt(const GenerateOptions& options, bool given) {
  if (given == !options.prompt_file.empty())
    fail_usage("generate", "give --prompt or --prompt-file, or --input and --output");
  if (options.prompt_file == "-" || options.prompt == "-") return read_standard_input();
  if (!options.prompt_file.empty()) {
    std::string text = read_text_file(options.prompt_file);
    if (text.ends_with('\n')) text.pop_back();
    return text;
  }
  if (!is_utf8(options.prompt)) fail_data("--prompt", "the text is not UTF-8");
  return options.prompt;
}

Constraint constraint_of(const GenerateOptions& options) {
  std::vector<Constraint> asked;
  if (!options.json_schema.empty())
    asked.push_back(json_schema_constraint(read_text_file(options.json_schema)));
  if (options.json_object) asked.push_back(json_schema_constraint(R"({"type": "object"})"));
  if (!options.pattern.empty()) asked.push_back({ConstraintKind::kPattern, options.pattern});
  if (!options.choices.empty()) asked.push_back(choice_constraint(options.choices));
  if (!options.grammar.empty())
    asked.push_back({ConstraintKind::kGrammar, read_text_file(options.grammar)});
  if (asked.size() > 1)
    fail_usage("generate",
               "an answer has one of --json-schema, --json-object, --pattern, --choices and "
               "--grammar",
               "leave the others out");
  if (asked.empty()) return {};
  constraint_grammar(asked[0]);  // what is wrong with it is said before a model is loaded
  return asked[0];
}

void report(const GenerationResult& result, const Tokenizer& tokenizer, bool json_output,
            bool streamed) {
  if (json_output) {
    ordered_json object = {{"text", result.text},
                           {"ids", result.ids},
                           {"prompt_tokens", result.prompt_tokens},
                           {"finish_reason", result.finish_reason}};
    add_details(object, result.completions, tokenizer);
    std::puts(object.dump().c_str());
    return;
  }
  if (!streamed) std::fwrite(result.text.data(), 1, result.text.size(), stdout);
  std::putchar('\n');
  for (size_t i = 1; i < result.completions.size(); ++i)
    std::printf("%s\n", result.completions[i].text.c_str());
  const auto count = static_cast<double>(result.ids.size());
  if (result.decode_seconds > 0) {
    log_info(cat(result.prompt_tokens, " prompt tokens, ", result.ids.size(), " new (",
                 static_cast<int64_t>(count / result.decode_seconds), " tokens/s), ended by ",
                 result.finish_reason,
                 draft_report(result.drafted_tokens, result.accepted_tokens)));
  }
}

int answer_one(const LoadedModel& loaded, const GenerateOptions& options,
               const AnswerOptions& answers, const SamplingConfig& sampling,
               const EngineConfig& engine, const Constraint& constraint, const std::string& text) {
  install_stop_signals();
  const bool stream = !options.json_output && stdout_is_terminal();
  Generator generator(*loaded.model, *loaded.tokenizer, engine, loaded.parts());
  Request request;
  request.prompt = prompt_of_text(loaded, answers.form(), text);
  request.sampling = sampling;
  request.adapter = answers.use_adapter;
  request.continues = answers.raw;
  request.n = options.num_return_sequences;
  request.best_of = options.best_of;
  request.logprobs = options.logprobs;
  request.constraint = constraint;
  if (!answers.raw) request.extra_stops = loaded.chat_template->stop_texts();
  const GenerationResult result =
      generator.generate(std::move(request), [&](std::string_view piece) {
        if (stream && !piece.empty()) {
          std::fputs(terminal_safe(piece).c_str(), stdout);
          std::fflush(stdout);
        }
        return !stop_requested();
      });
  report(result, *loaded.tokenizer, options.json_output, stream);
  return stop_requested() ? 128 + stop_signal() : 0;
}

void check_rows_options(const GenerateOptions& options, const AnswerOptions& answers,
                        bool prompt_given) {
  if (answers.output.empty()) fail_usage("output", "--input needs --output FILE");
  if (prompt_given || !options.prompt_file.empty())
    fail_usage("input", "the prompts are in the file: no --prompt beside it");
  if (options.json_output) fail_usage("json", "rows are JSON in any case");
}

CommandSpec generate_spec() {
  return {.verb = "generate",
          .summary = "Answers one prompt, which streams to a terminal, or each row of a file.",
          .examples = {"llama2zh generate --model chinese-llama2-chat --prompt 什么是人工智能？",
                       "llama2zh generate --model base --adapter out/sft --prompt-file q.txt "
                       "--temperature 0 --json",
                       "llama2zh generate --model base --raw --prompt 从前 --max-new-tokens 64",
                       "llama2zh generate --model chat --input rows.jsonl --output answers.jsonl"},
          .positional = {},
          .required = {"model"}};
}

}  // namespace

int run_generate(const std::vector<std::string>& args) {
  InferenceOptions inference;
  GenerateOptions options;
  AnswerOptions answers;
  SamplingConfig sampling;
  EngineConfig engine;
  SpeculationOptions speculation;
  const OptionTable table =
      join_tables({bind_options(inference), bind_options(options), bind_options(answers),
                   bind_options(sampling), bind_options(engine), bind_options(speculation)});
  const CommandLine line = parse_command_line(generate_spec(), table, args);
  if (line.help) return 0;
  const bool prompt_given = line.provenance.at("prompt") != "default";
  const bool rows = !answers.input.empty();
  if (rows) check_rows_options(options, answers, prompt_given);
  if (!rows && !answers.output.empty()) fail_usage("output", "it goes with --input");
  if (!rows && options.logprobs >= 0 && !options.json_output)
    fail_usage("logprobs", "they are part of the JSON output", "give --json too");

  const Constraint constraint = constraint_of(options);
  const std::string text = rows ? "" : read_prompt(options, prompt_given);
  LoadRequest request = inference.request(answers.template_name);
  speculation.apply(engine, request);
  const LoadedModel loaded = load_for_inference(request);
  if (!answers.raw)
    require_template(loaded, inference.model, ", or send the prompt without one by --raw");
  if (!rows) return answer_one(loaded, options, answers, sampling, engine, constraint, text);
  install_stop_signals();
  RowsJob job = rows_job(answers, sampling, engine, table);
  job.answers = options.num_return_sequences;
  job.best_of = options.best_of;
  job.logprobs = options.logprobs;
  job.constraint = constraint;
  job.settings += constraint.text;
  generate_rows(loaded, job);
  return 0;
}

}  // namespace llama2zh
