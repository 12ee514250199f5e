// llama2zh generate: the answer to one prompt on standard output.
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/inference_options.h"
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
  bool raw = false;
  std::string system;
  std::string template_name;
  bool json_output = false;
  static auto options() {
    using T = GenerateOptions;
    return std::tuple(
        option("prompt", &T::prompt, "The user's message; - reads standard input."),
        option("prompt_file", &T::prompt_file, "File with the prompt; - reads standard input."),
        option(
            "raw", &T::raw,
            "Send the prompt as it is, after BOS, without a template; the model continues it, and "
            "the text printed reads on from it, its first space included. "
            "Special tokens in it (</s>) become their ids."),
        option("system", &T::system, "System text; empty: the template's own."),
        option("template", &T::template_name,
               "Chat template; empty: the one stored with the model or adapter."),
        option("json", &T::json_output,
               "One object {\"text\",\"ids\",\"prompt_tokens\",\"finish_reason\"}."));
  }
};

// `given`: --prompt was there; its text may well be empty.
std::string read_prompt(const GenerateOptions& options, bool given) {
  if (given == !options.prompt_file.empty())
    fail_usage("generate", "give either --prompt or --prompt-file");
  if (options.prompt_file == "-" || options.prompt == "-") return read_standard_input();
  if (!options.prompt_file.empty()) {
    std::string text = read_text_file(options.prompt_file);
    if (text.ends_with('\n')) text.pop_back();
    return text;
  }
  if (!is_utf8(options.prompt)) fail_data("--prompt", "the text is not UTF-8");
  return options.prompt;
}

std::vector<TokenId> raw_ids(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<TokenId> ids = tokenizer.encode_with_specials(text);
  const bool has_bos = !ids.empty() && ids.front() == tokenizer.bos_id();
  if (ids.empty() || (tokenizer.add_bos() && !has_bos)) ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

std::vector<TokenId> chat_ids(const LoadedModel& loaded, const GenerateOptions& options,
                              const std::string& model, const std::string& text) {
  const ChatTemplate& chat_template =
      require_template(loaded, model, ", or send the prompt without one by --raw");
  std::vector<Message> messages;
  if (!options.system.empty()) messages.push_back({Role::kSystem, options.system});
  messages.push_back({Role::kUser, text});
  return chat_template.encode_prompt(*loaded.tokenizer, messages);
}

void report(const GenerationResult& result, bool json_output, bool streamed) {
  if (json_output) {
    std::puts(ordered_json{{"text", result.text},
                           {"ids", result.ids},
                           {"prompt_tokens", result.prompt_tokens},
                           {"finish_reason", result.finish_reason}}
                  .dump()
                  .c_str());
    return;
  }
  if (!streamed) std::fwrite(result.text.data(), 1, result.text.size(), stdout);
  std::putchar('\n');
  const auto count = static_cast<double>(result.ids.size());
  if (result.decode_seconds > 0) {
    log_info(cat(result.prompt_tokens, " prompt tokens, ", result.ids.size(), " new (",
                 static_cast<int64_t>(count / result.decode_seconds), " tokens/s), ended by ",
                 result.finish_reason));
  }
}

}  // namespace

int run_generate(const std::vector<std::string>& args) {
  InferenceOptions inference;
  GenerateOptions options;
  SamplingConfig sampling;
  const CommandSpec spec{
      .verb = "generate",
      .summary = "Answers one prompt; streams to a terminal.",
      .examples = {"llama2zh generate --model chinese-llama2-chat --prompt 什么是人工智能？",
                   "llama2zh generate --model base --adapter out/sft --prompt-file q.txt "
                   "--temperature 0 --json",
                   "llama2zh generate --model base --raw --prompt 从前 --max-new-tokens 64"},
      .positional = {},
      .required = {"model"}};
  const OptionTable table =
      join_tables({bind_options(inference), bind_options(options), bind_options(sampling)});
  const CommandLine line = parse_command_line(spec, table, args);
  if (line.help) return 0;

  const std::string text = read_prompt(options, line.provenance.at("prompt") != "default");
  const LoadedModel loaded = load_for_inference(inference.request(options.template_name));
  const std::vector<TokenId> prompt = options.raw
                                          ? raw_ids(*loaded.tokenizer, text)
                                          : chat_ids(loaded, options, inference.model, text);
  std::vector<std::string> stops;
  if (!options.raw) stops = loaded.chat_template->stop_texts();

  install_stop_signals();
  const bool stream = !options.json_output && stdout_is_terminal();
  Generator generator(*loaded.model, *loaded.tokenizer);
  const GenerationResult result = generator.generate(
      prompt, sampling, stops,
      [&](std::string_view piece) {
        if (stream && !piece.empty()) {
          std::fputs(terminal_safe(piece).c_str(), stdout);
          std::fflush(stdout);
        }
        return !stop_requested();
      },
      /*continues=*/options.raw);
  report(result, options.json_output, stream);
  return stop_requested() ? 128 + stop_signal() : 0;
}

}  // namespace llama2zh
