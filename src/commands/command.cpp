// The table of verbs and how the command line finds its verb.
#include "llama2zh/commands/command.h"

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <string>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

std::string program_help() {
  std::string out =
      "llama2zh: turns an English LLaMA-2 into a Chinese model and runs it.\n\nusage: llama2zh "
      "VERB [options]\n\nverbs:\n";
  for (const Command& command : commands()) {
    std::string name = command.name;
    name.resize(22, ' ');
    out += "  " + name + command.summary + "\n";
  }
  return out +
         "\n`llama2zh VERB --help` lists a verb's options with their defaults and examples.\n";
}

// The command whose words `args` begins with; null if there is none. `words` gets their number.
const Command* find_command(const std::vector<std::string>& args, size_t& words) {
  for (const Command& command : commands()) {
    const std::vector<std::string> name = split(command.name, ' ');
    if (args.size() >= name.size() && std::equal(name.begin(), name.end(), args.begin())) {
      words = name.size();
      return &command;
    }
  }
  return nullptr;
}

[[noreturn]] void fail_unknown_verb(const std::vector<std::string>& args) {
  std::vector<std::string> names;
  std::string with_second;
  for (const Command& command : commands()) {
    names.emplace_back(command.name);
    if (split(command.name, ' ').front() == args.front())
      with_second += cat(with_second.empty() ? "" : ", ", "`", command.name, "`");
  }
  if (!with_second.empty())
    fail_usage(args.front(), "this verb needs a second word", "one of " + with_second);
  const std::string close = nearest(args.front(), names);
  fail_usage(args.front(), "no such verb",
             close.empty() ? "`llama2zh --help` lists them"
                           : cat("did you mean `", close, "`? `llama2zh --help` lists all"));
}

// What a verb printed has arrived, or kIo: a full disk shows only when the last of it is written.
void flush_standard_output() {
  std::cout.flush();
  const bool flushed = std::fflush(stdout) == 0;
  const int error_number = flushed ? 0 : errno;
  if (!flushed || std::ferror(stdout) != 0 || !std::cout)
    fail_io("standard output", "not all could be written", error_number);
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      {"tokenize", "Text to ids and pieces", run_tokenize},
      {"train-tokenizer", "Train a sentencepiece model on your text", run_train_tokenizer},
      {"extend-vocab", "Merge a tokenizer into another and resize the model", run_extend_vocab},
      {"init-model", "Make a model with random weights from a tokenizer and a shape",
       run_init_model},
      {"prepare", "Tokenise a corpus into a store that training reads", run_prepare},
      {"pretrain", "Continue pretraining on raw text (LoRA + embeddings + head, or in full)",
       run_pretrain},
      {"sft", "Fine-tune on dialogues", run_sft},
      {"dpo", "Tune on pairs of answers: DPO, IPO, hinge, KTO on pairs, ORPO, SimPO", run_dpo},
      {"launch", "Start pretrain, sft or dpo on several devices or hosts and watch over it",
       run_launch},
      {"plan", "Memory that a recipe takes on 1 to 8 GPUs, from shapes alone", run_plan},
      {"plot", "Training and validation curves of runs as SVG or PNG", run_plot},
      {"bench train", "Tokens/s, share of the machine's peak and memory of training steps",
       run_bench_train},
      {"bench sft", "Rows/s of fine-tuning steps on real dialogues, packed or padded",
       run_bench_sft},
      {"bench kernels", "GFLOP/s and GB/s of products with bfloat16, int8 and int4 weights",
       run_bench_kernels},
      {"bench generate", "Tokens/s of prompts and of answers, by length and batch",
       run_bench_generate},
      {"bench throughput", "Tokens/s and latencies of many requests answered together",
       run_bench_throughput},
      {"bench serve", "Tokens/s and latencies of a running server under load", run_bench_serve},
      {"quantize", "A model in int8 or int4 weights, and what that changed", run_quantize},
      {"merge", "Base + adapters -> a plain model folder", run_merge},
      {"convert", "Between Hugging Face, Meta and llama2.c layouts", run_convert},
      {"generate", "Answer one prompt, or each row of a file", run_generate},
      {"embed", "A vector for each text of a file", run_embed},
      {"chat", "Talk to a model in the terminal", run_chat},
      {"serve", "Answer OpenAI's clients, the original's and browsers over HTTP", run_serve},
      {"evaluate perplexity", "Perplexity and bits per character on text files",
       run_evaluate_perplexity},
      {"evaluate compare", "Two models side by side: text, distance, answers, speed, size",
       run_evaluate_compare},
      {"evaluate ceval", "C-Eval: multiple-choice questions in 52 subjects", run_evaluate_ceval},
      {"evaluate cmmlu", "CMMLU: multiple-choice questions in 67 subjects", run_evaluate_cmmlu},
      {"evaluate text", "ROUGE, BLEU, chrF and exact match of answers against references",
       run_evaluate_text},
      {"evaluate generate", "Answer a test set and score the answers", run_evaluate_generate},
      {"inspect", "What a model, adapter, tokenizer or checkpoint folder holds, checked",
       run_inspect},
      {"config", "Show, validate or print the defaults of a run's configuration", run_config},
      {"data show", "Rows of a run as tokens, with the loss mask", run_data_show},
      {"data stats", "What training rows are: lengths, roles, languages, duplicates, test overlap",
       run_data_stats},
      {"data check", "The same, and exit status 1 if the rows have a problem", run_data_check},
      {"vocab report", "Tokenizers side by side on your text, and what a vocabulary costs",
       run_vocab_report},
  };
  return table;
}

namespace {

int run_verb(const std::vector<std::string>& args) {
  if (args.empty() || args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
    std::fputs(program_help().c_str(), stdout);
    return args.empty() ? 2 : 0;
  }
  if (args[0] == "--version") {
    std::puts("llama2zh " LLAMA2ZH_VERSION);
    return 0;
  }
  size_t words = 0;
  const Command* command = find_command(args, words);
  if (command == nullptr) fail_unknown_verb(args);
  return command->run(
      std::vector<std::string>(args.begin() + static_cast<std::ptrdiff_t>(words), args.end()));
}

}  // namespace

int run_command_line(const std::vector<std::string>& args) {
  const int exit_code = run_verb(args);
  flush_standard_output();
  return exit_code;
}

}  // namespace llama2zh
