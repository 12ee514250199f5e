// llama2zh chat: a conversation in the terminal. The loop reads a line, which is a command (/...)
// or a message; a message goes with the history through the template into a prompt that fits the
// context, and the answer streams out. Ctrl-C ends an answer, which stays in the history as far as
// it came.
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "commands/chat_session.h"
#include "commands/inference_options.h"
#include "commands/terminal.h"
#include "commands/verbs.h"
#include "llama2zh/config/command_line.h"

namespace llama2zh {

int run_chat(const std::vector<std::string>& args) {
  InferenceOptions inference;
  ChatOptions options;
  SamplingConfig sampling;
  EngineConfig engine;
  SpeculationOptions speculation;
  const OptionTable sampling_table = bind_options(sampling);
  const CommandSpec spec{
      .verb = "chat",
      .summary = "Talks with a model in the terminal; /help lists what can be typed.",
      .examples = {"llama2zh chat --model chinese-llama2-chat",
                   "llama2zh chat --model base --adapter out/sft --temperature 0.3",
                   "llama2zh chat --model base --template llama2 --system 你是一位医生。"},
      .positional = {},
      .required = {"model"}};
  OptionTable engine_table = bind_options(engine);
  std::erase_if(engine_table, [](const OptionEntry& entry) { return entry.key == "max_running"; });
  const OptionTable table = join_tables({bind_options(inference), bind_options(options),
                                         sampling_table, engine_table, bind_options(speculation)});
  if (parse_command_line(spec, table, args).help) return 0;

  LoadRequest request = inference.request(options.template_name);
  speculation.apply(engine, request);
  const LoadedModel loaded = load_for_inference(request);
  require_template(loaded, inference.model);
  ChatSession session(loaded, sampling, sampling_table, engine);
  session.set_adapter(options.use_adapter);
  if (!options.system.empty()) session.set_system(options.system);

  LineInput input("> ");
  if (input.interactive()) session.greet(inference.model);
  std::string line;
  while (true) {
    const LineInput::Event event = input.read(line);
    if (event == LineInput::Event::kEnd) break;
    if (event == LineInput::Event::kInterrupt) continue;
    if (!session.handle(line)) break;
  }
  if (input.interactive()) std::putchar('\n');
  return session.ended() ? 128 + SIGTERM : 0;
}

}  // namespace llama2zh
